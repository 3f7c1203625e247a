"""The mini-batch loop, compiled as a whole: gather, forward, loss, backward, update.

Nothing of Python runs per batch.  The loop is called for a range of batches, so that Python gets
a turn about every 100 ms for Ctrl-C, callbacks and progress.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastgd._jit import dispatch_on_class, njit
from fastgd.kernels.losses import value_and_delta
from fastgd.kernels.network import (
    backward,
    forward,
    load_targets,
    penalty,
    sum_of_squares,
)


class Limits(NamedTuple):
    """Bounds on a training step; 0 switches one off."""

    clip_value: float  # of each element of the gradient
    clip_norm: float  # of the Euclidean norm of the whole gradient
    max_norm: float  # of the norm of the weights into one unit

    def clip(self, grad):
        if self.clip_value > 0.0:
            bound = grad.dtype.type(self.clip_value)
            for i in range(grad.size):
                grad[i] = bound if grad[i] > bound else (-bound if grad[i] < -bound else grad[i])
        if self.clip_norm > 0.0:
            norm = math.sqrt(sum_of_squares(grad))
            if norm > self.clip_norm:
                factor = grad.dtype.type(self.clip_norm / norm)
                for i in range(grad.size):
                    grad[i] *= factor

    def constrain(self, layers, w, norms):
        if self.max_norm > 0.0:
            for l in range(layers.size):
                scale_columns(w, layers[l], self.max_norm, norms)


class NoLimits(NamedTuple):
    """No bounds; costs neither time nor compilation."""

    def clip(self, grad):
        pass

    def constrain(self, layers, w, norms):
        pass


@njit
def scale_columns(w, layer, max_norm, norms):
    """Scale down the weights into each unit of a layer whose norm exceeds ``max_norm``."""
    h = layer.n_out
    for j in range(h):
        norms[j] = 0
    for i in range(layer.n_in):
        for j in range(h):
            value = w[layer.weights + i * h + j]
            norms[j] += value * value
    for j in range(h):
        norm = math.sqrt(norms[j])
        norms[j] = max_norm / norm if norm > max_norm else 1.0
    for i in range(layer.n_in):
        for j in range(h):
            w[layer.weights + i * h + j] *= norms[j]


@dispatch_on_class
def clip(limits, grad):
    """Bound the gradient, first element by element, then as a whole."""
    limits.clip(grad)


@dispatch_on_class
def constrain(limits, layers, w, norms):
    """Bound the parameters after an update; ``norms`` is room for one number a unit."""
    limits.constrain(layers, w, norms)


class Memory(NamedTuple):
    """What an update rule remembers between steps."""

    arrays: NDArray[Any]  # (number of names in the rule's ``state``, n)
    scalars: NDArray[np.float64]  # (number of names in the rule's ``scalars``,)


class Batches(NamedTuple):
    """Which batches of an epoch to run."""

    order: NDArray[np.int64]  # row numbers in the order of the epoch; empty: as they lie
    n_samples: int
    size: int  # rows of a batch; the last one may be smaller
    first: int  # number of the first batch to run
    last: int  # one beyond the last


@dispatch_on_class
def step(rule, w, g, state, scalars, t, learning_rate):
    """One update of ``w`` in place, by the gradient ``g``; ``t`` counts the steps from 1."""
    rule.step(w, g, state, scalars, t, learning_rate)


@njit
def add_layer_norms(layers, grad, totals):
    """Add the norm of each layer's weight gradient to ``totals[4:]``."""
    for l in range(layers.size):
        start = layers[l].weights
        stop = start + layers[l].n_in * layers[l].n_out
        totals[4 + l] += math.sqrt(sum_of_squares(grad[start:stop]))


@njit(entry=True)
def run_batches(
    layers,
    w,
    grad,
    data,
    batches,
    loss,
    rule,
    memory,
    rates,
    t,
    alpha,
    dropout,
    limits,
    work,
    totals,
):
    """Train on the batches ``batches.first`` to ``batches.last`` of an epoch.

    Parameters
    ----------
    layers : record array of shape (L,)
        The layer table.
    w, grad : ndarray of shape (n,)
        Parameters, changed in place, and room for their gradient.
    data : Data
        The whole training set.
    batches : Batches
        Which batches to run.
    loss, rule : NamedTuple
        Loss function and update rule; their classes decide what is compiled.
    memory : Memory
        The rule's state, changed in place.
    rates : ndarray of shape (last - first,), float64
        Learning rate of each step; a batch without weight is none.
    t : int
        Number of updates made before.
    alpha : float
        Strength of the L2 penalty.
    dropout : Dropout or NoDropout
    limits : Limits or NoLimits
    work : Workspace
        Buffers for one batch.
    totals : ndarray of shape (4 + L,), float64
        Grows by the data term and by the penalty of each batch, times its number of rows; by
        this number; by 1; and by the norm of each layer's weight gradient.
    """
    k = layers[layers.size - 1].n_out
    t_before = t
    for b in range(batches.first, batches.last):
        first = b * batches.size
        n_rows = min(batches.size, batches.n_samples - first)
        total_weight = load_targets(data, batches.order, first, n_rows, work)
        if total_weight == 0.0:
            continue  # nothing to learn from
        start = forward(
            layers, w, data.X, batches.order, first, n_rows, batches.size, work, dropout, t
        )  # fmt: skip
        z = work.units[start : start + n_rows * k]
        value = value_and_delta(loss, z, work.y, work.weight, n_rows, k, work.delta)
        backward(
            layers, w, data.X, batches.order, first, n_rows, batches.size, work,
            1.0 / total_weight, alpha / total_weight, w, False, grad, dropout, t,
        )  # fmt: skip
        totals[0] += n_rows * (value / total_weight)
        totals[1] += n_rows * penalty(layers, w, alpha, total_weight)
        totals[2] += n_rows
        totals[3] += 1
        add_layer_norms(layers, grad, totals)
        clip(limits, grad)
        t += 1
        step(rule, w, grad, memory.arrays, memory.scalars, t, rates[t - 1 - t_before])
        constrain(limits, layers, w, work.delta)
    return t


@njit(entry=True)
def apply_step(rule, w, g, memory, t, learning_rate):
    """One update by a given gradient, for use outside of the mini-batch loop."""
    step(rule, w, g, memory.arrays, memory.scalars, t, learning_rate)
