"""Switches the timing on, and gives each benchmark the same frame."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.contests import Contest
from bench.provenance import versions

ROUNDS = 10


def pytest_configure(config: pytest.Config) -> None:
    # setup.cfg switches the timing off for the tests.  The plugin reads its options in a
    # trylast hook, so this comes early enough.  Who asks for no timing gets none.
    if "--benchmark-disable" not in config.invocation_params.args:
        config.option.benchmark_enable = True


@pytest.fixture
def race(benchmark) -> Callable[[Contest, str], None]:
    """Time one peer of a contest; peers of one contest are printed together.

    Speed is never asserted: a busy machine must not turn a run red.
    """

    def race(contest: Contest, peer: str) -> None:
        benchmark.group = f"{contest.question}: {contest.cell}, {contest.steps} steps"
        benchmark.extra_info.update(
            steps=contest.steps, blas_threads=contest.threads, versions=versions()
        )
        with contest.limits():
            result = benchmark.pedantic(contest.runs[peer], rounds=ROUNDS, warmup_rounds=1)
        if contest.question == "epoch":
            benchmark.extra_info["loss"] = result[0][-1]
        elif contest.question == "gradient":
            benchmark.extra_info["loss"] = result[0] / contest.steps

    return race
