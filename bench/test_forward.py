"""How fast are the outputs of a network, batch by batch?"""

import pytest

from bench import contests
from bench.problems import CELLS


@pytest.mark.parametrize("peer", ["fastgd", "numpy", "sklearn"])
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_forward(race, cell, peer):
    race(contests.forward(cell), peer)
