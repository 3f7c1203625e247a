"""How much memory does a fit take besides its data?"""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np

import fastgd
from bench.cells import Cell, samples
from bench.peers.estimators import estimator
from bench.table import Table

LONG = Cell((784, 256, 128, 10), 128, 100, 1)
CELLS = (
    LONG,
    Cell((784, 800, 800, 10), 256, 10, 1),
    Cell((5000, 64, 10), 125, 160, 1, density=0.005),
)

# Targets, order, validation: some numbers a sample, and what Python itself takes.
SMALL_CHANGE = 2_500_000


def peak_bytes(cell: Cell) -> int:
    """The most that a second fit holds at a time, of what NumPy and Python allocate."""
    X, y = samples(cell)
    model = estimator(fastgd, cell)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)  # what is compiled stays
        model = estimator(fastgd, cell)
        tracemalloc.start()
        try:
            model.fit(X, y)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


def sizes(cell: Cell) -> dict[str, int]:
    """Bytes of the data, of the parameters, and of the units of a batch."""
    X, itemsize = samples(cell)[0], np.dtype(cell.dtype).itemsize
    arrays = (X.data, X.indices, X.indptr) if cell.density < 1.0 else (X,)
    return {
        "X": sum(a.nbytes for a in arrays),
        "parameters": cell.n_parameters * itemsize,
        "batch": cell.batch_size * sum(cell.sizes) * itemsize,
    }


def report() -> None:
    """Megabytes, and the peak in multiples of the parameters and of the data."""
    columns = ["MB", "X", "parameters", "units of a batch", "peak of a fit besides X"]
    table = Table([*columns, "peak / parameters", "peak / X"])
    for cell in CELLS:
        parts, peak = sizes(cell), peak_bytes(cell)
        megabytes = (f"{value / 1e6:.2f}" for value in (*parts.values(), peak))
        table.row(cell, *megabytes, f"{peak / parts['parameters']:.2f}", f"{peak / parts['X']:.2f}")
