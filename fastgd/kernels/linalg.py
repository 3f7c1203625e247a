"""The two kinds of input matrix, dense and CSR, and their products.

Shape letters: N samples, B rows of a batch, D features, H outputs of a layer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastgd._jit import dispatch_on_class, njit
from fastgd.kernels.gemm import gemm


class Dense(NamedTuple):
    """A C-contiguous matrix (N, D) as one flat array."""

    values: NDArray[Any]
    n_features: int

    def affine(self, order, first, n_rows, w, layer, buffer, out, start, engine):
        """``out[start:] = X[rows] W + b``; gathered rows stay in ``buffer``."""
        d = self.n_features
        h = layer.n_out
        if order.size == 0:
            gemm(
                engine, n_rows, h, d, 1.0, self.values, first * d, d, 1, w, layer.weights, h, 1,
                1.0, w, layer.biases, 0, out, start, h,
            )  # fmt: skip
        else:
            for i in range(n_rows):
                source = order[first + i] * d
                row = self.values[source : source + d]
                gathered = buffer[i * d : (i + 1) * d]
                for j in range(d):
                    gathered[j] = row[j]
            gemm(
                engine, n_rows, h, d, 1.0, buffer, 0, d, 1, w, layer.weights, h, 1,
                1.0, w, layer.biases, 0, out, start, h,
            )  # fmt: skip

    def accumulate(
        self, order, first, n_rows, scale, delta, kept, source, buffer, grad, layer, engine
    ):
        """``grad = scale X[rows]ᵀ delta + kept source``, after ``affine`` on the same rows."""
        d = self.n_features
        h = layer.n_out
        if order.size == 0:
            gemm(
                engine, d, h, n_rows, scale, self.values, first * d, 1, d, delta, 0, h, 1,
                kept, source, layer.weights, h, grad, layer.weights, h,
            )  # fmt: skip
        else:
            gemm(
                engine, d, h, n_rows, scale, buffer, 0, 1, d, delta, 0, h, 1,
                kept, source, layer.weights, h, grad, layer.weights, h,
            )  # fmt: skip


class CSR(NamedTuple):
    """A sparse matrix (N, D) in compressed rows, never made dense."""

    data: NDArray[Any]
    indices: NDArray[Any]
    indptr: NDArray[Any]
    n_features: int

    def affine(self, order, first, n_rows, w, layer, buffer, out, start, engine):
        """``out[start:] = X[rows] W + b``."""
        h = layer.n_out
        fill_rows(w, layer.biases, n_rows, h, out, start)
        for i in range(n_rows):
            row = order[first + i] if order.size > 0 else first + i
            target = out[start + i * h : start + (i + 1) * h]
            for p in range(self.indptr[row], self.indptr[row + 1]):
                value = self.data[p]
                source = layer.weights + np.int64(self.indices[p]) * h
                weights = w[source : source + h]
                for j in range(h):
                    target[j] += value * weights[j]

    def accumulate(
        self, order, first, n_rows, scale, delta, kept, source, buffer, grad, layer, engine
    ):
        """``grad = scale X[rows]ᵀ delta + kept source``."""
        h = layer.n_out
        rest = grad.dtype.type(kept)
        zero = grad.dtype.type(0.0)
        stop = layer.weights + self.n_features * h
        target, old = grad[layer.weights : stop], source[layer.weights : stop]
        for p in range(target.size):
            target[p] = rest * old[p] if kept != 0.0 else zero
        factor = grad.dtype.type(scale)
        for i in range(n_rows):
            row = order[first + i] if order.size > 0 else first + i
            slopes = delta[i * h : (i + 1) * h]
            for p in range(self.indptr[row], self.indptr[row + 1]):
                value = factor * self.data[p]
                start = layer.weights + np.int64(self.indices[p]) * h
                target = grad[start : start + h]
                for j in range(h):
                    target[j] += value * slopes[j]


@njit
def fill_rows(w, biases, n_rows, h, out, start):
    """Write the bias vector into each row, so that the product can add to it."""
    for i in range(n_rows):
        row, bias = out[start + i * h : start + (i + 1) * h], w[biases : biases + h]
        for j in range(h):
            row[j] = bias[j]


@dispatch_on_class
def affine(x, order, first, n_rows, w, layer, buffer, out, start, engine):
    """``out = X[rows] W + b`` for either kind of matrix; rows are ``order[first:]``,
    or ``first, first + 1, …`` where ``order`` is empty.
    """
    x.affine(order, first, n_rows, w, layer, buffer, out, start, engine)


@dispatch_on_class
def accumulate(x, order, first, n_rows, scale, delta, kept, source, buffer, grad, layer, engine):
    """``grad = scale X[rows]ᵀ delta + kept source`` for the weights of a layer."""
    x.accumulate(order, first, n_rows, scale, delta, kept, source, buffer, grad, layer, engine)
