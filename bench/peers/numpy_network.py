"""A network in plain NumPy, as somebody would write it who knows NumPy well.

Buffers are allocated once, operations write in place, and the parameters are one flat
vector, so that an update is a dozen calls whatever the number of layers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.special import expit

from bench.cells import Cell
from bench.start import views

Array = NDArray[Any]


class Network:
    """The network of a cell, on batches of one fixed size."""

    def __init__(self, cell: Cell, batch_size: int, w: Array) -> None:
        sizes, dtype = cell.sizes, w.dtype
        self.w, self.grad = w, np.empty_like(w)
        self.coefs, self.intercepts = views(cell, w)
        self._coef_grads, self._intercept_grads = views(cell, self.grad)
        self._tanh = cell.activation == "tanh"
        self._value_and_delta = getattr(self, f"_{cell.loss}")
        shapes = [(batch_size, n_out) for n_out in sizes[1:]]
        self._units = [np.empty(shape, dtype) for shape in shapes]
        self._deltas = [np.empty(shape, dtype) for shape in shapes[:-1]]
        self._slopes = [np.empty(shape, dtype if self._tanh else bool) for shape in shapes[:-1]]
        self._column = np.empty((batch_size, 1), dtype)
        self._rows = np.arange(batch_size)
        n_weights = w.size - sum(sizes[1:])
        self._weights, self._weight_grads = w[:n_weights], self.grad[:n_weights]
        self._scratch = np.empty(n_weights, dtype)
        self._alpha = cell.alpha

    def outputs(self, X: Any) -> Array:
        """Raw outputs (B, K); overwritten by the next call."""
        a = X
        for W, b, z in zip(self.coefs, self.intercepts, self._units, strict=True):
            if scipy.sparse.issparse(a):
                np.add(a @ W, b, out=z)
            else:
                np.matmul(a, W, out=z)
                z += b
            if z is not self._units[-1]:
                np.tanh(z, out=z) if self._tanh else np.maximum(z, 0, out=z)
            a = z
        return a

    def gradient(self, X: Any, y: Array) -> float:
        """Objective of a batch; its gradient goes to ``grad``."""
        z, batch_size = self.outputs(X), X.shape[0]
        loss = self._value_and_delta(z, y)
        self._backward(X, z)
        np.multiply(self._weights, self._alpha / batch_size, out=self._scratch)
        self._weight_grads += self._scratch
        squares = float(np.dot(self._weights, self._weights))
        return (loss + 0.5 * self._alpha * squares) / batch_size

    # Each loss: its sum over the batch; the derivative of its mean replaces the raw outputs.

    def _log_loss(self, z: Array, y: Array) -> float:
        column = self._column
        np.maximum.reduce(z, axis=1, keepdims=True, out=column)
        z -= column
        own = float(z[self._rows, y].sum())
        np.exp(z, out=z)
        np.add.reduce(z, axis=1, keepdims=True, out=column)
        loss = float(np.log(column).sum()) - own
        column *= len(z)  # one division a row gives softmax and the mean over the batch
        z /= column
        z[self._rows, y] -= 1.0 / len(z)
        return loss

    def _labels(self, z: Array, y: Array) -> float:
        loss = float((np.logaddexp(0, z) - y * z).sum())
        expit(z, out=z)
        z -= y
        z *= 1.0 / len(z)
        return loss

    def _squared_error(self, z: Array, y: Array) -> float:
        z -= y[:, np.newaxis]
        loss = 0.5 * float(np.dot(z[:, 0], z[:, 0]))
        z *= 1.0 / len(z)
        return loss

    def _backward(self, X: Any, delta: Array) -> None:
        for l in range(len(self.coefs) - 1, -1, -1):
            a = self._units[l - 1] if l else X
            if scipy.sparse.issparse(a):
                self._coef_grads[l][:] = a.T @ delta
            else:
                np.matmul(a.T, delta, out=self._coef_grads[l])
            np.add.reduce(delta, axis=0, out=self._intercept_grads[l])
            if l:
                below, slope = self._deltas[l - 1], self._slopes[l - 1]
                np.matmul(delta, self.coefs[l].T, out=below)
                if self._tanh:
                    np.multiply(a, a, out=slope)
                    np.subtract(1, slope, out=slope)
                else:
                    np.greater(a, 0, out=slope)
                np.multiply(below, slope, out=below)
                delta = below
