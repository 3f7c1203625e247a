"""How long are ten fits, one after the other and in threads?"""

import pytest

from bench import many_fits
from bench.pairing import THREADS


@pytest.mark.parametrize("n_jobs", sorted({1, THREADS}))
@pytest.mark.parametrize("package", many_fits.PACKAGES)
@pytest.mark.parametrize("cell", many_fits.CELLS, ids=str)
def test_many_fits(benchmark, cell, package, n_jobs):
    benchmark.group = f"ten fits: {cell}"
    arguments = many_fits.PACKAGES[package], cell, n_jobs
    losses = benchmark.pedantic(many_fits.fit, arguments, rounds=3, warmup_rounds=1)
    benchmark.extra_info.update(loss=losses[0], n_jobs=n_jobs)
