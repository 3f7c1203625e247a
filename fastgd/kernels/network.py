"""Forward pass, backpropagation, and the objective of a dense network.

The objective is the weighted mean over samples of the loss summed over outputs, plus
``alpha / 2 · ‖weights‖² / Σ sample_weight``; biases are not penalised.

Shape letters: N samples, B rows of a batch, D features, K outputs, n parameters.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastgd._jit import njit
from fastgd.kernels.activations import activate, activate_backward
from fastgd.kernels.dropout import NoDropout, drop, drop_backward
from fastgd.kernels.gemm import gemm
from fastgd.kernels.linalg import CSR, Dense, accumulate, affine
from fastgd.kernels.losses import link, value_and_delta


class Data(NamedTuple):
    """Samples as the kernels take them."""

    X: Dense | CSR
    y: NDArray[Any]  # (N, K) of X's dtype, or (N, 1) class numbers
    weight: NDArray[Any]  # (N,), or (0,) where all samples weigh the same


@njit
def forward(layers, w, X, order, first, n_rows, rows, work, dropout, step):
    """Raw outputs of the network for ``n_rows`` samples; returns where they lie in ``work.units``.

    ``rows`` is the number of rows that the workspace was made for.  ``step`` decides the
    dropout masks.
    """
    units = work.units
    start = 0
    for l in range(layers.size):
        layer = layers[l]
        below = start
        start = layer.outputs * rows
        n = n_rows * layer.n_out
        if l == 0:
            affine(X, order, first, n_rows, w, layer, work.x, units, start, work.engine)
        else:
            gemm(
                work.engine, n_rows, layer.n_out, layer.n_in, 1.0, units, below, layer.n_in, 1,
                w, layer.weights, layer.n_out, 1, 1.0, w, layer.biases, 0,
                units, start, layer.n_out,
            )  # fmt: skip
        if layer.raw >= 0:
            raw = layer.raw * rows
            for p in range(n):
                units[raw + p] = units[start + p]
        activate(layer.activation, units[start : start + n])
        drop(dropout, units[start : start + n], layer.dropout, step, l)
    return start


@njit
def backward(
    layers, w, X, order, first, n_rows, rows, work, scale, kept, source, keep_biases, grad,
    dropout, step,
):  # fmt: skip
    """Backpropagation from ``work.delta``, the derivatives by the raw outputs.

    ``grad = scale · gradient + kept · source`` for the weights, which adds the penalty, or what
    earlier blocks of rows gave, without another pass over memory; biases grow if ``keep_biases``.
    """
    units = work.units
    delta = work.delta
    delta_below = work.delta_below
    for l in range(layers.size - 1, -1, -1):
        layer = layers[l]
        h = layer.n_out
        sum_rows(delta, n_rows, h, scale, keep_biases, grad, layer.biases)
        if l == 0:
            accumulate(
                X,
                order,
                first,
                n_rows,
                scale,
                delta,
                kept,
                source,
                work.x,
                grad,
                layer,
                work.engine,
            )
            break
        below = layers[l - 1]
        start = below.outputs * rows
        n = n_rows * layer.n_in
        gemm(
            work.engine, layer.n_in, h, n_rows, scale, units, start, 1, layer.n_in,
            delta, 0, h, 1, kept, source, layer.weights, h, grad, layer.weights, h,
        )  # fmt: skip
        gemm(
            work.engine, n_rows, layer.n_in, h, 1.0, delta, 0, h, 1, w, layer.weights, 1, h,
            0.0, delta_below, 0, layer.n_in, delta_below, 0, layer.n_in,
        )  # fmt: skip
        a = units[start : start + n]
        drop_backward(dropout, a, delta_below[:n], below.dropout, step, l - 1)
        raw = start if below.raw < 0 else below.raw * rows
        activate_backward(below.activation, a, units[raw : raw + n], delta_below[:n])
        delta, delta_below = delta_below, delta


@njit
def sum_rows(delta, n_rows, h, scale, keep, grad, biases):
    """Gradient by the biases: column sums of ``delta``, added to what is there if ``keep``."""
    factor = grad.dtype.type(scale)
    # Slices, because a computed index might be negative for all that the compiler knows, and
    # a loop that has to look for that is not vectorised.
    sums = grad[biases : biases + h]
    if not keep:
        for j in range(h):
            sums[j] = 0
    for i in range(n_rows):
        row = delta[i * h : (i + 1) * h]
        for j in range(h):
            sums[j] += factor * row[j]


@njit
def load_targets(data, order, first, n_rows, work):
    """Copy targets and weights of a batch together; return the sum of the weights."""
    k = data.y.shape[1]
    for i in range(n_rows):
        row = order[first + i] if order.size > 0 else first + i
        for j in range(k):
            work.y[i * k + j] = data.y[row, j]
    if data.weight.size == 0:
        return np.float64(n_rows)
    total = 0.0
    for i in range(n_rows):
        row = order[first + i] if order.size > 0 else first + i
        work.weight[i] = data.weight[row]
        total += np.float64(work.weight[i])
    return total


@njit(reduction=True)
def sum_of_squares(x):
    """Σ x² in float64."""
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i]) * np.float64(x[i])
    return total


@njit
def penalty(layers, w, alpha, total_weight):
    """Value of the L2 penalty of the weights."""
    if alpha == 0.0:
        return 0.0
    return 0.5 * alpha * sum_of_squares(w[: layers[0].biases]) / total_weight


@njit(entry=True)
def predict_blocks(layers, w, X, n_samples, rows, loss, work, out):
    """Fill ``out`` (N, K) with the predictions for all samples, ``rows`` at a time."""
    k = layers[layers.size - 1].n_out
    order = np.empty(0, np.int64)
    for first in range(0, n_samples, rows):
        n_rows = min(rows, n_samples - first)
        start = forward(layers, w, X, order, first, n_rows, rows, work, NoDropout(), 0)
        z = work.units[start : start + n_rows * k]
        link(loss, z, n_rows, k)
        for i in range(n_rows):
            for j in range(k):
                out[first + i, j] = z[i * k + j]


@njit(entry=True)
def objective(layers, w, data, n_samples, rows, alpha, loss, work, grad):
    """Value of the objective as (data term, penalty); its gradient goes to ``grad``.

    An empty ``grad`` asks for the value alone.  Memory is bounded by blocks of ``rows`` samples.
    """
    k = layers[layers.size - 1].n_out
    order = np.empty(0, np.int64)
    total_weight = np.float64(n_samples)
    if data.weight.size > 0:
        total_weight = 0.0
        for i in range(n_samples):
            total_weight += np.float64(data.weight[i])
    value = 0.0
    for first in range(0, n_samples, rows):
        n_rows = min(rows, n_samples - first)
        load_targets(data, order, first, n_rows, work)
        start = forward(layers, w, data.X, order, first, n_rows, rows, work, NoDropout(), 0)
        z = work.units[start : start + n_rows * k]
        value += value_and_delta(loss, z, work.y, work.weight, n_rows, k, work.delta)
        if grad.size > 0:
            kept, source = (alpha / total_weight, w) if first == 0 else (1.0, grad)
            backward(
                layers, w, data.X, order, first, n_rows, rows, work, 1.0 / total_weight,
                kept, source, first > 0, grad, NoDropout(), 0,
            )  # fmt: skip
    return value / total_weight, penalty(layers, w, alpha, total_weight)
