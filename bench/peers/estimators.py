"""What fastgd and scikit-learn have in common: the interface."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import RandomState
from sklearn.exceptions import ConvergenceWarning

from bench.cells import SEED, Cell, samples
from bench.start import start, views

Run = Callable[[], tuple[Any, ...]]


def parameters(cell: Cell) -> dict[str, Any]:
    """The constructor's arguments that make a cell."""
    return {
        "hidden_layer_sizes": cell.sizes[1:-1],
        "activation": cell.activation,
        "solver": cell.solver,
        "momentum": 0.0,
        "alpha": cell.alpha,
        "batch_size": cell.batch_size,
        "max_iter": cell.n_epochs,
        "n_iter_no_change": math.inf,  # nobody stops early
        "random_state": SEED,
    }


def estimator(package: Any, cell: Cell) -> Any:
    """The classifier or the regressor of a package, not fitted."""
    kind = "MLPRegressor" if cell.loss == "squared_error" else "MLPClassifier"
    return getattr(package, kind)(**parameters(cell))


def fit_run(package: Any, cell: Cell) -> Run:
    """``fit`` as users call it: validation of the input, initial weights and all."""
    model, (X, y) = estimator(package, cell), samples(cell)

    def run() -> tuple[Any, ...]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return (model.fit(X, y).loss_curve_,)

    return run


def at_start(package: Any, cell: Cell) -> Any:
    """A fitted estimator with the parameters that all peers start from."""
    X, y = samples(cell)
    model = estimator(package, cell)
    # One batch is enough to have everything that a fit leaves behind.
    X, y, classes = X[: cell.batch_size], y[: cell.batch_size], np.arange(cell.sizes[-1])
    model.partial_fit(X, y, classes=classes)
    model.coefs_, model.intercepts_ = views(cell, start(cell)[0])
    return model


def prediction_run(package: Any, cell: Cell, X: Any) -> Run:
    """``predict`` as users call it."""
    model = at_start(package, cell)
    return lambda: (model.predict(X),)


class Learner:
    """Epochs through ``partial_fit``, which shuffles by itself."""

    def __init__(self, package: Any, cell: Cell, X: Any, y: Any) -> None:
        self._package, self._cell, self._X, self._y = package, cell, X, y

    def reset(self, seed: int) -> None:
        self._model = estimator(self._package, self._cell)
        # A generator: from a number each call would draw the same order again.
        self._model.set_params(random_state=RandomState(seed))

    def epoch(self) -> None:
        self._model.partial_fit(self._X, self._y, classes=np.arange(self._cell.sizes[-1]))

    def predict(self, X: Any) -> Any:
        return self._model.predict(X)
