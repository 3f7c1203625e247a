"""Switches the timing on, and gives each benchmark the same frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench import peers
from bench.pairing import Contest
from bench.provenance import versions

ROUNDS = 5


def pytest_configure(config: pytest.Config) -> None:
    # setup.cfg switches the timing off for the tests.  The plugin reads its options in a
    # trylast hook, so this comes early enough.  Who asks for no timing gets none.
    if "--benchmark-disable" not in config.invocation_params.args:
        config.option.benchmark_enable = True
    # The tests turn warnings into errors; the peers' warnings are not ours to mend.
    config.addinivalue_line("filterwarnings", "default")


@pytest.fixture
def race(benchmark) -> Callable[..., Any]:
    """Time one peer of a contest; the peers of one contest are printed together.

    Speed is never asserted: a busy machine must not turn a run red.
    """

    def race(make: Callable[[], Contest], peer: str) -> tuple[Any, ...]:
        # Some contests are with one library alone, which is no peer elsewhere.
        found = peers.module(peer) if peer in peers.EVERYBODY else None
        if isinstance(found, str):
            pytest.skip(found)
        contest = make()
        if peer not in contest.runs:
            pytest.skip(f"{peer} has no answer to this question")
        benchmark.group = f"{contest.question}: {contest.cell}, {contest.steps} steps"
        benchmark.extra_info.update(
            steps=contest.steps, threads=contest.threads, versions=versions()
        )
        with contest.limits():
            return benchmark.pedantic(contest.runs[peer], rounds=ROUNDS, warmup_rounds=1)

    return race
