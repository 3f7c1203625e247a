"""How long is a gradient of the whole objective, as the second-order solvers ask for it?"""

from __future__ import annotations

import functools

import numpy as np

from bench import peers
from bench.cells import Cell
from bench.pairing import Contest, repeated
from bench.table import Table, number, versus

CELLS = (Cell((64, 32, 10), 5_000, 1, 1), Cell((784, 256, 128, 10), 10_000, 1, 1))


@functools.lru_cache(maxsize=1)
def contest(cell: Cell) -> Contest:
    """Loss and gradient of all samples."""
    runs = peers.runs("gradient", cell)
    this = Contest("gradient", str(cell), cell.short_passes, runs).check()
    return this._replace(runs=repeated(runs, this.steps))


def report() -> None:
    """Milliseconds a gradient."""
    asked = [peer for peer in peers.present() if hasattr(peers.module(peer), "gradient")]
    table = Table(["ms a full-batch gradient", *asked, "best peer / fastgd"])
    for cell in CELLS:
        this = contest(cell)
        seconds = this.seconds()
        times = (number(1e3 * float(np.median(seconds[peer])) / this.steps) for peer in asked)
        table.row(cell, *times, versus(seconds))
