"""How does the time of a training step grow with width, depth, batch, samples and threads?"""

from __future__ import annotations

import numpy as np

from bench import peers
from bench.cells import Cell
from bench.pairing import THREADS, Contest
from bench.table import Table, number, versus

AMONG = ("fastgd", "NumPy", "PyTorch", "JAX")
# A JAX process has one number of threads, which its start decides.
AMONG_THREADS = ("fastgd", "NumPy", "PyTorch")


# Each about as long as the others in its row.
BY_WIDTH = [Cell((64, n, n, 10), 64, 3_200 // n, 2) for n in (16, 128, 1_024)]
BY_DEPTH = [Cell((64, *[64] * n, 10), 64, 100, 2) for n in (1, 3, 8)]
BY_BATCH = [Cell((64, 64, 10), n, 4_000 // (n + 3), 2) for n in (1, 32, 512)]
BY_SAMPLES = [Cell((64, 64, 10), 100, n // 100, 100_000 // n) for n in (1_000, 10_000, 100_000)]
BY_THREADS = (Cell((64, 64, 10), 512, 20, 2), Cell((784, 800, 800, 10), 256, 5, 2))


def contest(cell: Cell, among: tuple[str, ...] = AMONG, threads: int = THREADS) -> Contest:
    """Loss curves of whole fits."""
    runs = peers.runs("training", cell, among=among)
    return Contest("scaling", str(cell), cell.steps, runs, threads).check()


def report() -> None:
    """Microseconds a step, one table a dimension."""
    for name, cells in (
        ("width", BY_WIDTH),
        ("depth", BY_DEPTH),
        ("batch", BY_BATCH),
        ("samples", BY_SAMPLES),
    ):
        rows = [(f"{cell}, {cell.n_samples:,} samples", contest(cell)) for cell in cells]
        _table(f"µs a step, by {name}", rows, AMONG)
    rows = [
        (f"{cell}, {threads} threads", contest(cell, AMONG_THREADS, threads))
        for cell in BY_THREADS
        for threads in (1, THREADS)
    ]
    _table("µs a step, by threads", rows, AMONG_THREADS)


def _table(title: str, rows: list[tuple[str, Contest]], among: tuple[str, ...]) -> None:
    columns = [peer for peer in among if peer in peers.present()]
    print()
    table = Table([title, *columns, "best peer / fastgd"])
    for name, this in rows:
        seconds = this.seconds()
        steps = (number(1e6 * float(np.median(seconds[peer])) / this.steps) for peer in columns)
        table.row(name, *steps, versus(seconds))
