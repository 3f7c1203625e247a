"""A contest, and how it is measured: the peers in turns, so that all share each disturbance.

A run does a whole number of steps and returns what it computed; a result that costs something
to collect is returned as a function.  All peers of a contest start from the same parameters and
see the same data in the same order.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import joblib
import numpy as np
from numpy.typing import NDArray

from bench import peers

Run = Callable[[], tuple[Any, ...]]
Seconds = dict[str, NDArray[Any]]

THREADS = joblib.cpu_count()

# Rounding accumulates over thousands of steps, and the variants of Adam differ in where ε stands:
# together some 1e-3 of the loss.
TOLERANCE = 1e-2

ROUNDS = 9  # the first one is discarded
ENOUGH_ROUNDS, ENOUGH_SECONDS = 5, 6.0  # then a slow contest ends early

# After its last product a worker of OpenBLAS or OpenMP goes on spinning for up to 110 ms, and the
# libraries have a pool each.  Without a pause the next peer shares its processors with them.
PAUSE_SECONDS = 0.15


class Contest(NamedTuple):
    """One question at one size."""

    question: str
    cell: str
    steps: int  # that each run does
    runs: dict[str, Run]
    threads: int = THREADS  # the same for all peers
    tolerance: float = TOLERANCE

    @contextlib.contextmanager
    def limits(self) -> Iterator[None]:
        """Context in which all peers have the contest's number of threads."""
        with peers.threads(self.threads):
            yield

    def check(self) -> Contest:
        """Run everybody once, which also compiles, and compare what they computed."""
        with self.limits():
            results = {peer: _collected(run()) for peer, run in self.runs.items()}
        for peer, result in results.items():
            for ours, theirs in zip(results["fastgd"], result, strict=True):
                error = np.linalg.norm(ours - theirs) / np.linalg.norm(ours)
                # Written so that NaN fails.
                if not error <= self.tolerance:
                    raise AssertionError(
                        f"{self.question}, {self.cell}: fastgd and {peer} do not do the same work,"
                        f" relative difference {error:.2g}: {ours} and {theirs}."
                    )
        return self

    def seconds(self, **others: Run) -> Seconds:
        """Seconds of each peer in each round, and of what else is to be timed in turn with them."""
        runs = self.runs | others
        rounds: list[list[float]] = []
        begun = time.perf_counter()
        with self.limits():
            while len(rounds) < ROUNDS:
                if len(rounds) >= ENOUGH_ROUNDS and time.perf_counter() - begun > ENOUGH_SECONDS:
                    break
                rounds.append([self._one(run) for run in runs.values()])
        return dict(zip(runs, np.array(rounds[1:]).T, strict=True))

    def _one(self, run: Run) -> float:
        if self.threads > 1:
            time.sleep(PAUSE_SECONDS)
        started = time.perf_counter()
        run()
        return time.perf_counter() - started


def _collected(result: tuple[Any, ...]) -> list[NDArray[Any]]:
    values = (value() if callable(value) else value for value in result)
    return [np.asarray(value, np.float64) for value in values]


def repeated(runs: dict[str, Run], times: int) -> dict[str, Run]:
    """Runs of so many calls: one alone would be shorter than what wakes the processors up."""

    def repeat(run: Run) -> Run:
        def all_of_them() -> tuple[Any, ...]:
            for _ in range(times - 1):
                run()
            return run()

        return all_of_them

    return {name: repeat(run) for name, run in runs.items()}


def best_peer(seconds: Seconds) -> str:
    """The fastest of the others, by its median."""
    return min(seconds.keys() - {"fastgd"}, key=lambda peer: float(np.median(seconds[peer])))


def ratio(seconds: Seconds, peer: str) -> tuple[float, float, float]:
    """How many times as long as fastgd a peer takes: 20th, 50th and 80th percentile."""
    low, middle, high = np.percentile(seconds[peer] / seconds["fastgd"], [20, 50, 80])
    return float(low), float(middle), float(high)
