"""What does a new process pay: for the import, for a first fit that compiles, for one that loads?

The table shows whole processes, start of the interpreter included; what the process measured
itself is in ``extra_info``.
"""

import statistics

import pytest

from bench.processes import IMPORTS, fit_seconds, import_seconds
from bench.provenance import versions


@pytest.mark.parametrize("imported", IMPORTS)
def test_import(benchmark, imported):
    benchmark.group = "cold start: import"
    seconds = []

    def run():
        seconds.append(import_seconds(IMPORTS[imported]))

    # The round before the others fills the disk cache of the system.
    benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    benchmark.extra_info.update(seconds=statistics.median(seconds[1:]), versions=versions())


@pytest.mark.parametrize(("cache", "rounds"), [("cold", 2), ("warm", 5)])
def test_first_fit(benchmark, tmp_path, cache, rounds):
    benchmark.group = "cold start: first fit"
    if cache == "warm":
        fit_seconds(tmp_path)
    runs = []

    def run():
        folder = tmp_path / str(len(runs)) if cache == "cold" else tmp_path
        runs.append(fit_seconds(folder))

    benchmark.pedantic(run, rounds=rounds)
    benchmark.extra_info.update(
        first=statistics.median(run["first"] for run in runs),
        later=statistics.median(run["later"] for run in runs),
        versions=versions(),
    )
