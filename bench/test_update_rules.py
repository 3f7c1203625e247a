"""How long is one update by each rule?"""

import pytest

from bench import update_rules
from fastgd.optimizers import OPTIMIZERS


@pytest.mark.parametrize("peer", ["fastgd", "NumPy", "PyTorch", "JAX"])
@pytest.mark.parametrize("n", update_rules.SIZES[:2])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_update_rule(race, name, n, peer):
    race(lambda: update_rules.contest(name, n), peer)


@pytest.mark.parametrize("peer", ["fastgd", "NumPy", "PyTorch", "JAX"])
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_update_in_memory(race, name, peer):
    race(lambda: update_rules.contest(name, update_rules.SIZES[2]), peer)
