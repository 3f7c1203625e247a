"""How long is a run of BFGS?"""

import pytest

from bench import bfgs


@pytest.mark.parametrize("name", bfgs.METHODS)
@pytest.mark.parametrize("h", bfgs.SIZES)
def test_bfgs(race, benchmark, h, name):
    _, nit = race(lambda: bfgs.contest(h)[0], name)
    benchmark.extra_info.update(n=bfgs.objective(h).n_parameters, iterations=nit)
