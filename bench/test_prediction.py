"""How long do predictions take?"""

import pytest

from bench import prediction

PEERS = ["fastgd", "NumPy", "scikit-learn", "PyTorch", "JAX"]


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize(("cell", "n_rows"), prediction.SUBJECTS, ids=str)
def test_prediction(race, cell, n_rows, peer):
    race(lambda: prediction.contest(cell, n_rows), peer)
