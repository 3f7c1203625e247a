"""How long is a whole fit by L-BFGS?"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from bench.cells import Cell, samples
from bench.packages import PACKAGES
from bench.pairing import Contest, Run, ratio
from bench.peers.estimators import estimator
from bench.table import Table, number, spread

# All samples are one batch, and an epoch is an iteration.
DIGITS = Cell((64, 32, 10), 1_797, 1, 30, solver="lbfgs", dtype="float64")
CELLS = (DIGITS, Cell((784, 256, 128, 10), 2_000, 1, 10, solver="lbfgs", dtype="float64"))

# Both hand the same loss and gradient to SciPy's L-BFGS-B; rounding grows from step to step.
TOLERANCE = 1e-4


def data(cell: Cell) -> tuple[Any, NDArray[Any]]:
    """scikit-learn's digits, or samples that are as wide as MNIST."""
    if cell is not DIGITS:
        return samples(cell)
    X, y = load_digits(return_X_y=True)
    return X / 16, y


@functools.lru_cache(maxsize=1)
def contest(cell: Cell) -> tuple[Contest, dict[str, Any]]:
    """The loss after the same number of iterations; and everybody's estimator."""
    X, y = data(cell)
    models = {name: estimator(package, cell) for name, package in PACKAGES.items()}

    def runner(model: Any) -> Run:
        def run() -> tuple[float, int]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that more iterations would be better
                model.fit(X, y)
            return model.loss_, model.n_iter_

        return run

    runs = {name: runner(model) for name, model in models.items()}
    return Contest("L-BFGS", str(cell), cell.n_epochs, runs, tolerance=TOLERANCE).check(), models


def report() -> None:
    """Milliseconds a fit, iterations and losses."""
    columns = ["ms a fit", *PACKAGES, "scikit-learn / fastgd", "iterations"]
    table = Table([*columns, *(f"loss of {name}" for name in PACKAGES)])
    for cell in CELLS:
        this, models = contest(cell)
        seconds = this.seconds()
        table.row(
            cell,
            *(number(1e3 * float(np.median(seconds[name]))) for name in PACKAGES),
            spread(*ratio(seconds, "scikit-learn")),
            models["fastgd"].n_iter_,
            *(f"{model.loss_:.6g}" for model in models.values()),
        )
