"""How fast are loss and gradient of a batch?"""

import pytest

from bench import contests
from bench.problems import CELLS


@pytest.mark.parametrize("peer", ["fastgd", "numpy", "sklearn"])
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_gradient(race, cell, peer):
    race(contests.gradient(cell), peer)
