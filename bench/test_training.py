"""How long is training: ``fit`` with some epochs of shuffled mini-batches?"""

import pytest

from bench import training
from bench.cells import TRAINING
from bench.peers import EVERYBODY


def test_all_have_the_penalty():
    training.check_penalty(training.PENALISED)


@pytest.mark.parametrize("peer", EVERYBODY)
@pytest.mark.parametrize("cell", TRAINING, ids=str)
def test_training(race, benchmark, cell, peer):
    curve, *_ = race(lambda: training.contest(cell), peer)
    benchmark.extra_info["loss"] = curve[-1]
