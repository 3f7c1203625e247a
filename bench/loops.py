"""Loops over batches and over steps in compiled code, as the training loop has them.

Entering compiled code from Python costs some microseconds, which training pays once in 100 ms.
A benchmark that paid it for every batch would measure little else on the small network.
"""

from __future__ import annotations

import numba
import numpy as np

from fastgd._jit import ELEMENTWISE
from fastgd.kernels.dropout import NoDropout
from fastgd.kernels.epoch import step
from fastgd.kernels.losses import value_and_delta
from fastgd.kernels.network import backward, forward, load_targets, penalty

# Not the project's ``njit``, whose disk cache does not see edits outside of the package.
njit = numba.njit(fastmath=set(ELEMENTWISE), error_model="numpy")


@njit
def batch_gradients(layers, w, grad, data, n_samples, rows, alpha, loss, work):
    """Gradient of each batch, one over the other in ``grad``; returns the sum of the losses."""
    k = layers[layers.size - 1].n_out
    order = np.empty(0, np.int64)
    total = 0.0
    for first in range(0, n_samples, rows):
        n_rows = min(rows, n_samples - first)
        weight = load_targets(data, order, first, n_rows, work)
        start = forward(layers, w, data.X, order, first, n_rows, rows, work, NoDropout(), 0)
        z = work.units[start : start + n_rows * k]
        total += value_and_delta(loss, z, work.y, work.weight, n_rows, k, work.delta) / weight
        backward(
            layers, w, data.X, order, first, n_rows, rows, work,
            1.0 / weight, alpha / weight, w, False, grad, NoDropout(), 0,
        )  # fmt: skip
        total += penalty(layers, w, alpha, weight)
    return total


@njit
def rule_steps(rule, w, gradients, memory, t, learning_rate, n_steps):
    """Updates by gradients that take turns; returns the number of steps made so far."""
    for _ in range(n_steps):
        t += 1
        step(rule, w, gradients[t % 2], memory.arrays, memory.scalars, t, learning_rate)
    return t
