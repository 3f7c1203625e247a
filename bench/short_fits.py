"""What does a fit cost besides its steps: one epoch of a few samples?"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.cells import Cell, samples
from bench.packages import PACKAGES
from bench.pairing import Contest, repeated
from bench.peers.estimators import estimator, fit_run
from bench.table import Table, number, versus

CLASSES = Cell((20, 10, 3), 200, 1, 1)
NUMBERS = Cell((20, 10, 1), 200, 1, 1, loss="squared_error")
FITS = 30


def partial_fit_run(package: Any, cell: Cell) -> Callable[[], tuple[Any, ...]]:
    """One more epoch of an estimator that has been trained before."""
    model, (X, y) = estimator(package, cell), samples(cell)
    classes = {} if cell.loss == "squared_error" else {"classes": np.arange(cell.sizes[-1])}
    return lambda: (model.partial_fit(X, y, **classes).loss_,)


METHODS = {"fit": fit_run, "partial_fit": partial_fit_run}
SUBJECTS = tuple((method, cell) for cell in (CLASSES, NUMBERS) for method in METHODS)


@functools.lru_cache(maxsize=1)
def contest(method: str, cell: Cell) -> Contest:
    """So many calls, of scikit-learn's estimators too: nobody else has them."""
    runs = {name: METHODS[method](package, cell) for name, package in PACKAGES.items()}
    return Contest("short fits", f"{method}, {cell}", FITS, repeated(runs, FITS)).check()


def report() -> None:
    """Milliseconds a call."""
    table = Table(["ms a call", *PACKAGES, "best peer / fastgd"])
    for subject in SUBJECTS:
        this = contest(*subject)
        seconds = this.seconds()
        calls = (number(1e3 * float(np.median(s)) / this.steps) for s in seconds.values())
        table.row(this.cell, *calls, versus(seconds))
