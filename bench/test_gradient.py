"""How long is a gradient of the whole objective?"""

import pytest

from bench import gradient

PEERS = ["fastgd", "NumPy", "scikit-learn", "PyTorch", "JAX"]


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("cell", gradient.CELLS, ids=str)
def test_gradient(race, benchmark, cell, peer):
    loss, _ = race(lambda: gradient.contest(cell), peer)
    benchmark.extra_info["loss"] = loss
