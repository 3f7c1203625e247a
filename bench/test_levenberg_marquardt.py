"""How long are iterations of Levenberg–Marquardt, and how long is the way to a minimum?"""

import pytest

from bench import levenberg_marquardt

PEERS = ["fastgd", "MINPACK"]


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("cell", levenberg_marquardt.CELLS, ids=str)
def test_iterations(race, cell, peer):
    race(lambda: levenberg_marquardt.iterations(cell), peer)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("cell", levenberg_marquardt.CELLS, ids=str)
def test_way_to_the_minimum(race, benchmark, cell, peer):
    (cost,) = race(lambda: levenberg_marquardt.way(cell).contest, peer)
    needed = levenberg_marquardt.way(cell).needed[peer]
    benchmark.extra_info.update(cost=cost, iterations=needed)
