"""What does a new process pay: for imports, for a first fit that compiles, for one that loads?

The table shows whole processes, start of the interpreter included; what the process measured
itself is in ``extra_info``.
"""

import statistics

import numpy as np
import pytest

from bench.cold_start import IMPORTS, fit_seconds, import_seconds
from bench.provenance import versions


@pytest.mark.parametrize("statement", IMPORTS)
def test_import(benchmark, statement):
    benchmark.group = "cold start: import"
    # The round before the others fills the disk cache of the system.
    if np.isnan(import_seconds(statement)):
        pytest.skip(f"{statement}: not installed")
    seconds = []
    benchmark.pedantic(lambda: seconds.append(import_seconds(statement)), rounds=3)
    benchmark.extra_info.update(seconds=statistics.median(seconds), versions=versions())


@pytest.mark.parametrize(("cache", "rounds"), [("cold", 1), ("warm", 3)])
def test_first_fits(benchmark, tmp_path, cache, rounds):
    benchmark.group = "cold start: first fits"
    fits = "adam", "adam", "rmsprop", "regressor"
    if cache == "warm":
        fit_seconds(tmp_path, *fits)
    runs = []
    benchmark.pedantic(lambda: runs.append(fit_seconds(tmp_path, *fits)), rounds=rounds)
    names = "first", "again", "second_optimizer", "second_loss"
    seconds = zip(names, np.median(runs, axis=0), strict=True)
    benchmark.extra_info.update(seconds, versions=versions())
