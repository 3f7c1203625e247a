"""Plain NumPy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from bench.cells import Cell, samples
from bench.peers.numpy_network import Network
from bench.peers.numpy_rules import RULES
from bench.peers.trainer import fit_run
from bench.start import start

Array = NDArray[Any]
Run = Callable[[], tuple[Any, ...]]

BLOCK = 1024  # rows of a prediction: their units stay in the cache


class Trainer:
    """See ``bench.peers.trainer``."""

    def __init__(self, cell: Cell, X: Any, y: Array) -> None:
        self._cell, self._X, self._y = cell, X, y
        w = np.empty(cell.n_parameters, cell.dtype)
        self._network = Network(cell, cell.batch_size, w)
        self._X_epoch = None if scipy.sparse.issparse(X) else np.empty_like(X)
        self._y_epoch = np.empty_like(y)

    def reset(self, w: Array) -> None:
        self._network.w[:] = w
        # scikit-learn's Adam has ε beside the uncorrected root.
        options = {"epsilon_hat": True} if self._cell.solver == "adam" else {}
        self._update, self._t = RULES[self._cell.solver](w.size, w.dtype, **options), 0

    def as_order(self, order: Array) -> Array:
        return order

    def epoch(self, order: Array) -> float:
        X, network, B = self._X_epoch, self._network, self._cell.batch_size
        if X is None:
            X = self._X[order]
        else:
            # "clip" spares the bounds check, and with it a copy.
            np.take(self._X, order, axis=0, out=X, mode="clip")
        np.take(self._y, order, axis=0, out=self._y_epoch, mode="clip")
        total = 0.0
        for first in range(0, len(order) - B + 1, B):
            rows = slice(first, first + B)
            total += network.gradient(X[rows], self._y_epoch[rows])
            self._t += 1
            self._update(network.w, network.grad, self._t)
        return total / (len(order) // B)

    def predict(self, X: Array) -> Array:
        return predictor(self._cell, self._network.w)(X)


def predictor(cell: Cell, w: Array) -> Callable[[Array], Array]:
    """The function that predicts class numbers, block by block."""
    network = functools.cache(lambda n_rows: Network(cell, n_rows, w))

    def predict(X: Array) -> Array:
        out = np.empty(len(X), np.int64)
        for first in range(0, len(X), BLOCK):
            block = X[first : first + BLOCK]
            np.argmax(network(len(block)).outputs(block), axis=1, out=out[first : first + BLOCK])
        return out

    return predict


training = functools.partial(fit_run, Trainer)


def prediction(cell: Cell, X: Array) -> Run:
    """Class numbers of X."""
    predict = predictor(cell, start(cell)[0])
    return lambda: (predict(X),)


def gradient(cell: Cell) -> Run:
    """Loss and gradient of all samples at once."""
    X, y = samples(cell)
    network = Network(cell, len(X), start(cell)[0])
    return lambda: (network.gradient(X, y), network.grad)


def update_rule(name: str, gradients: Array, steps: int) -> Run | None:
    """Updates by gradients that take turns, from zeros."""
    if name not in RULES:
        return None
    w = np.zeros(gradients.shape[1], gradients.dtype)
    step = RULES[name](w.size, w.dtype)
    t = 0

    def run() -> tuple[Any, ...]:
        nonlocal t
        for _ in range(steps):
            t += 1
            step(w, gradients[t % 2], t)
        return (w,)

    return run
