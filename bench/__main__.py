"""How many times faster than NumPy and scikit-learn, measured in pairs?

``python -m bench`` lets the peers of each contest run in turns (A B C A B C …), so that what
disturbs the machine disturbs all of them, and prints the median of the rounds' ratios with the
range from the 20th to the 80th percentile, as a Markdown table.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import contests
from bench.contests import Contest, Run
from bench.problems import CELLS, MNIST, PARAMETER_COUNTS
from bench.processes import IMPORTS, fit_seconds, import_seconds
from bench.provenance import cpu_model, versions
from fastgd.optimizers import OPTIMIZERS

ROUNDS = 15  # the first one is discarded
ENOUGH_ROUNDS, ENOUGH_SECONDS = 6, 15.0  # then a slow contest ends early

# After its last product an OpenBLAS worker goes on spinning for some 10 ms, and NumPy and SciPy
# (whose BLAS fastgd uses) have one OpenBLAS each.  Without a pause the peer that runs after one
# of the other library shares its processors with those idle workers.
PAUSE_SECONDS = 0.1


def all_contests() -> Iterator[Contest]:
    for make in contests.forward, contests.gradient, contests.epoch:
        yield from map(make, CELLS)
        if make is contests.epoch:
            yield contests.epoch(MNIST, threads=1)
    for name in OPTIMIZERS:
        for n in PARAMETER_COUNTS:
            yield contests.update_rule(name, n)


def paired_seconds(contest: Contest) -> dict[str, NDArray[Any]]:
    """Seconds of each peer in each round."""
    rounds: list[list[float]] = []
    begun = time.perf_counter()
    with contest.limits():
        while len(rounds) < ROUNDS:
            if len(rounds) >= ENOUGH_ROUNDS and time.perf_counter() - begun > ENOUGH_SECONDS:
                break
            rounds.append([_seconds(run, contest.threads) for run in contest.runs.values()])
    return dict(zip(contest.runs, np.array(rounds[1:]).T, strict=True))


def _seconds(run: Run, threads: int) -> float:
    if threads > 1:
        time.sleep(PAUSE_SECONDS)
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def ratio(seconds: dict[str, NDArray[Any]], peer: str) -> str:
    """How many times as long as fastgd a peer takes: median and spread."""
    if peer not in seconds:
        return "—"
    low, median, high = np.percentile(seconds[peer] / seconds["fastgd"], [20, 50, 80])
    return f"{median:.2f} ({low:.2f}–{high:.2f})"


def print_table() -> None:
    print("| what | size | threads | fastgd, µs a step | NumPy / fastgd | scikit-learn / fastgd |")
    print("|---|---|---:|---:|---:|---:|")
    for contest in all_contests():
        seconds = paired_seconds(contest)
        step = 1e6 * np.median(seconds["fastgd"]) / contest.steps
        print(
            f"| {contest.question} | {contest.cell} | {contest.threads} | {step:.2f}"
            f" | {ratio(seconds, 'numpy')} | {ratio(seconds, 'sklearn')} |",
            flush=True,
        )


def print_import_times(rounds: int = 7) -> None:
    pairs = [[import_seconds(code) for code in IMPORTS.values()] for _ in range(rounds)]
    seconds = np.array(pairs)[1:]
    low, middle, high = np.percentile(seconds[:, 0] / seconds[:, 1], [20, 50, 80])
    ours, theirs = np.median(seconds, axis=0)
    print(
        f"- `{IMPORTS['fastgd']}`: {ours:.2f} s; `{IMPORTS['numba and sklearn']}`: {theirs:.2f} s;"
        f" ratio {middle:.2f} ({low:.2f}–{high:.2f})"
    )


def print_first_fits() -> None:
    cold, warm = [], []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            cold.append(fit_seconds(folder)["first"])
            warm += [fit_seconds(folder) for _ in range(3)]
    extra = [run["first"] - run["later"] for run in warm]
    print(f"- first fit, cold cache: {', '.join(f'{s:.2f}' for s in cold)} s")
    print(
        f"- first fit, warm cache: {np.median([run['first'] for run in warm]):.3f} s,"
        f" {np.median(extra):.3f} s more than later fits"
        f" (worst of {len(extra)}: {max(extra):.3f} s)"
    )


def main() -> None:
    print(f"{cpu_model()}; {', '.join(f'{name} {v}' for name, v in versions().items())}\n")
    print_table()
    print()
    print_import_times()
    print_first_fits()


if __name__ == "__main__":
    main()
