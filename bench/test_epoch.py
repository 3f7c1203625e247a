"""How fast is training as a whole: ``fit`` with some epochs of shuffled mini-batches?"""

import pytest

from bench import contests
from bench.problems import CELLS


@pytest.mark.parametrize("peer", ["fastgd", "numpy", "sklearn"])
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_epoch(race, cell, peer):
    race(contests.epoch(cell), peer)
