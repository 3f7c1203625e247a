"""How long is a whole fit by L-BFGS?"""

import pytest

from bench import lbfgs


@pytest.mark.parametrize("package", lbfgs.PACKAGES)
@pytest.mark.parametrize("cell", lbfgs.CELLS, ids=str)
def test_lbfgs(race, benchmark, cell, package):
    loss, n_iter = race(lambda: lbfgs.contest(cell)[0], package)
    benchmark.extra_info.update(loss=loss, iterations=n_iter)
