"""Residuals of the squared error, their Jacobian, and its normal equations.

The residuals are those of the objective as a sum of squares, ``objective = ½ ‖r‖²``::

    r = √(s / Σs) (z − y)     one for each sample and output, N K of them
    r = √(alpha / Σs) w       one for each weight, if there is a penalty

The kernels do the first kind.  A row of the Jacobian is one way back with the derivative 1 at one
output; all rows of a block go back together, once for each output.
"""

from __future__ import annotations

import math

from fastgd._jit import njit
from fastgd.kernels.gemm import gemm
from fastgd.kernels.linalg import call_outer, outer
from fastgd.kernels.network import (
    backpropagate,
    forward,
    load_targets,
    n_parameters_of,
    total_weight_of,
)
from fastgd.kernels.plan import copy_to, layer_at, reals, smaller
from fastgd.kernels.team import barrier, next_piece, share

# Rows of the normal equations that are dealt out at a time.
NORMAL_ROWS = 48


@njit
def residuals_of_rows(plan, first, lo, hi, scale, residuals):
    """Forward pass; residuals of the rows ``lo`` to ``hi`` of a block, row after row."""
    k = layer_at(plan.layers, plan.n_layers - 1).n_out
    load_targets(plan, first, lo, hi, scale)
    outputs = forward(plan, first, lo, hi, 0)
    z = reals(plan, plan.units, outputs + lo * k, outputs + hi * k)
    y = reals(plan, plan.targets, lo * k, hi * k)
    weights = reals(plan, plan.weights, lo, hi)
    for i in range(hi - lo):
        root = math.sqrt(weights[i])
        for p in range(i * k, (i + 1) * k):
            residuals[p] = root * (z[p] - y[p])


@njit
def jacobian_of_rows(plan, first, lo, hi, out, n_parameters):
    """After the forward pass: the rows of the Jacobian, K for each sample, from ``out`` on."""
    size = plan.itemsize
    last = layer_at(plan.layers, plan.n_layers - 1)
    k = last.n_out
    start, stop = last.deltas * plan.rows + lo * k, last.deltas * plan.rows + hi * k
    weights = reals(plan, plan.weights, lo, hi)
    for output in range(k):
        deltas = reals(plan, plan.delta, start, stop)
        for p in range(deltas.size):
            deltas[p] = 0
        for i in range(hi - lo):
            deltas[i * k + output] = math.sqrt(weights[i])
        backpropagate(plan, lo, hi, 0)
        at, stride = out + output * n_parameters * size, k * n_parameters * size
        call_outer(plan.outer, plan, first, lo, hi, at, stride)
        for i in range(lo, hi):
            row_of_layers(plan, i, reals(plan, at + (i - lo) * stride, 0, n_parameters))


@njit
def row_of_layers(plan, i, row):
    """What does not belong to the first layer's weights."""
    for l in range(plan.n_layers):
        layer = layer_at(plan.layers, l)
        h, n_in = layer.n_out, layer.n_in
        at = layer.deltas * plan.rows + i * h
        deltas = reals(plan, plan.delta, at, at + h)
        copy_to(row[layer.biases : layer.biases + h], deltas)
        if l > 0:
            below = layer_at(plan.layers, l - 1)
            at = below.outputs * plan.rows + i * n_in
            units = reals(plan, plan.units, at, at + n_in)
            outer(units, deltas, row[layer.weights : layer.weights + n_in * h])


@njit(entry=True)
def jacobian(plans, with_jacobian):
    """All residuals go to ``plan.out``, their derivatives to ``plan.jacobian``."""
    plan = plans[0]
    k = layer_at(plan.layers, plan.n_layers - 1).n_out
    n = n_parameters_of(plan)
    scale = 1.0 / total_weight_of(plan, 0, plan.n_samples)
    for block in range((plan.n_samples + plan.rows - 1) // plan.rows):
        first = block * plan.rows
        lo, hi = share(plan, smaller(plan.rows, plan.n_samples - first), plan.loss_rows)
        if lo < hi:
            row = (first + lo) * k
            residuals = reals(plan, plan.out, row, (first + hi) * k)
            residuals_of_rows(plan, first, lo, hi, scale, residuals)
            if with_jacobian:
                at = plan.jacobian + row * n * plan.itemsize
                jacobian_of_rows(plan, first, lo, hi, at, n)
        # The last block may be shared in another way, and the buffers are those of all.
        if not barrier(plan):
            break


@njit(entry=True)
def normal_equations(plans):
    """JᵀJ goes to ``plan.normal``, its lower triangle; the residuals to ``plan.out``.

    ``plan.jacobian`` holds one block of rows at a time, so memory does not grow with N.
    """
    plan = plans[0]
    size = plan.itemsize
    k = layer_at(plan.layers, plan.n_layers - 1).n_out
    n = n_parameters_of(plan)
    scale = 1.0 / total_weight_of(plan, 0, plan.n_samples)
    n_pieces = (n + NORMAL_ROWS - 1) // NORMAL_ROWS
    for block in range((plan.n_samples + plan.rows - 1) // plan.rows):
        first = block * plan.rows
        n_rows = smaller(plan.rows, plan.n_samples - first)
        lo, hi = share(plan, n_rows, plan.loss_rows)
        if lo < hi:
            residuals = reals(plan, plan.out, (first + lo) * k, (first + hi) * k)
            residuals_of_rows(plan, first, lo, hi, scale, residuals)
            at = plan.jacobian + lo * k * n * size
            jacobian_of_rows(plan, first, lo, hi, at, n)
        if not barrier(plan):
            break
        piece = next_piece(plan, -1, n_pieces, block)
        while piece < n_pieces:
            # The longest rows of the triangle first, so that nobody waits for them at the end.
            top = (n_pieces - 1 - piece) * NORMAL_ROWS
            bottom = smaller(top + NORMAL_ROWS, n)
            at = plan.normal + top * n * size
            gemm(
                plan, bottom - top, bottom, n_rows * k, plan.jacobian + top * size, 1, n,
                plan.jacobian, n, 1, 0.0 if first == 0 else 1.0, at, n, at, n,
            )  # fmt: skip
            piece = next_piece(plan, piece, n_pieces, block)
        if not barrier(plan):
            break
