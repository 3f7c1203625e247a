"""How long is one update by each rule, and which share of the memory bandwidth is that?"""

from __future__ import annotations

import functools

import numpy as np
from numpy.random import RandomState

from bench import floor, peers
from bench.cells import SEED
from bench.pairing import Contest
from bench.table import Table, number, versus
from fastgd.optimizers import OPTIMIZERS

SIZES = (1_000, 100_000, 10_000_000)  # in the first-level cache, in the second, in memory
ENOUGH_BYTES = 2**30  # for a triad: starting threads is nothing beside it

# Some rules compare signs, which two libraries may round differently at zero.
TOLERANCE = 1e-3


@functools.lru_cache(maxsize=1)
def contest(name: str, n: int) -> Contest:
    """Parameters after updates by two gradients in turn, the rule's options at their defaults."""
    steps = min(5_000, 50_000_000 // n)  # some 20 ms
    gradients = RandomState(SEED).standard_normal((2, n)).astype(np.float32)
    runs = peers.runs("update_rule", name, gradients, steps)
    return Contest("update rule", f"{name}, n = {n:,}", steps, runs, tolerance=TOLERANCE).check()


def bytes_moved(name: str, n: int) -> tuple[int, int]:
    """Bytes that an update reads and writes, and of the arrays that all updates work on.

    One reads gradient, parameters and state, and writes the latter two; there are two gradients.
    """
    n_states = len(getattr(OPTIMIZERS[name](), "state", ()))
    return (3 + 2 * n_states) * 4 * n, (3 + n_states) * 4 * n


def report() -> None:
    """Microseconds an update, bandwidth, and the share of a triad's in the same rounds.

    The triad passes over as much memory as the updates do.
    """
    asked = [peer for peer in peers.present() if hasattr(peers.module(peer), "update_rule")]
    others = [peer for peer in asked if peer != "fastgd"]
    columns = ["µs an update", "n", "fastgd", *others, "best peer / fastgd", "GB/s", "of a triad"]
    table = Table(columns)
    for n in SIZES:
        for name in OPTIMIZERS:
            this = contest(name, n)
            moved, held = bytes_moved(name, n)
            # As many in a row, or, if these are soon done, more: a run also starts threads.
            times = this.steps * max(1, ENOUGH_BYTES // (held * this.steps))
            seconds = this.seconds(triad=floor.triads(held, times))
            rate = moved * this.steps / seconds["fastgd"]
            share = np.median(rate / (held * times / seconds.pop("triad")))
            step = {peer: float(np.median(s)) / this.steps for peer, s in seconds.items()}
            table.row(
                name,
                f"{n:,}",
                number(1e6 * step["fastgd"]),
                *(number(1e6 * step[peer]) if peer in step else "—" for peer in others),
                versus(seconds),
                number(moved / step["fastgd"] / 1e9),
                f"{share:.0%}",
            )
