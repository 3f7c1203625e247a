"""How long do predictions of one row, of a thousand and of a million take?"""

from __future__ import annotations

import functools

import numpy as np
from numpy.random import RandomState

from bench import peers
from bench.cells import SEED, Cell
from bench.pairing import Contest, repeated
from bench.table import Table, number, versus

SMALL = Cell((64, 32, 10), 32, 20, 1)
MNIST = Cell((784, 256, 128, 10), 128, 5, 1)
SUBJECTS = ((SMALL, 1), (SMALL, 1_000), (MNIST, 1), (MNIST, 1_000), (SMALL, 1_000_000))


@functools.lru_cache(maxsize=1)
def contest(cell: Cell, n_rows: int) -> Contest:
    """Class numbers of the same rows."""
    X = RandomState(SEED).standard_normal((n_rows, cell.sizes[0])).astype(cell.dtype)
    runs = peers.runs("prediction", cell, X)
    steps = max(1, min(200, 2_000_000_000 // (n_rows * cell.n_parameters)))
    name = f"{'-'.join(map(str, cell.sizes))}, {n_rows:,} row{'s' * (n_rows > 1)}"
    return Contest("prediction", name, steps, repeated(runs, steps)).check()


def report() -> None:
    """Microseconds a call."""
    asked = [peer for peer in peers.present() if hasattr(peers.module(peer), "prediction")]
    table = Table(["µs a call of predict", *asked, "best peer / fastgd"])
    for subject in SUBJECTS:
        this = contest(*subject)
        seconds = this.seconds()
        calls = (number(1e6 * float(np.median(seconds[peer])) / this.steps) for peer in asked)
        table.row(this.cell, *calls, versus(seconds))
