"""Products of the Hessian, and of its Gauss–Newton part, with a direction, without the matrix.

The R-operator of Pearlmutter 1994, "Fast exact multiplication by the Hessian": each quantity of the
forward and backward pass is differentiated along the direction v, which costs as much again as the
pass itself.  With a = φ(z) and z = a₋ W + b::

    Rz = Ra₋ W + a₋ V + v_b              Ra = φ′(z) Rz
    Rδ = φ′(z) (Rδ₊ Wᵀ + δ₊ Vᵀ) + φ″(z) Rz · (δ₊ Wᵀ)
    Hv = Σ Ra₋ᵀ δ + a₋ᵀ Rδ

at the outputs Rδ = (second derivatives of the loss) Rz.  The Gauss–Newton product leaves out all
terms with δ (Schraudolph 2002, "Fast curvature matrix-vector products").

V and v_b are parts of v, as W and b are parts of w; so the direction is a plan of its own, whose
``w`` is v, whose ``delta`` is Rδ and whose ``grad`` is the product.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastgd._jit import njit
from fastgd.kernels.activations import NAMES, curvature_address
from fastgd.kernels.aligned import aligned_empty
from fastgd.kernels.gemm import gemm
from fastgd.kernels.layout import n_units
from fastgd.kernels.linalg import affine
from fastgd.kernels.listed import forget_lists
from fastgd.kernels.loss_parts import loss_curvature_part
from fastgd.kernels.network import (
    chunk_gradient,
    forward,
    load_targets,
    rows_of_chunk,
    total_weight_of,
)
from fastgd.kernels.panels import call_pack_deltas, gemm_by_deltas
from fastgd.kernels.parts import call_activate_backward, call_loss, call_loss_curvature
from fastgd.kernels.plan import Plan, copy_to, int64_at, layer_at, plan_records, reals, smaller
from fastgd.kernels.team import barrier, next_piece, share


def plans_of_direction(plans: list[Plan], loss: Any) -> list[Plan]:
    """Give the plans of a team what the products need; returns those of the direction."""
    layers, rows, dtype = plans[0]["layers"], plans[0]["rows"], plans[0].dtype
    n = rows * n_units(layers)
    curvatures = [curvature_address(NAMES[place], dtype) for place in layers["activation"]]
    shared = {
        "curvatures": np.array(curvatures, np.int64),
        "tangents": np.empty(n, dtype),
        "bends": np.empty(n, dtype),
        "loss_curvature": loss_curvature_part(loss, dtype),
    }
    own = {"delta": np.empty(n, dtype)}
    if plans[0]["panels"] is not None:
        own["panels"] = aligned_empty(plans[0]["panels"].size, dtype)
    directions = [plan.copy().set(**own) for plan in plans]
    for plan, direction in zip(plans, directions, strict=True):
        plan.set(direction=direction.record, **shared)
    return directions


@njit
def forward_along(plan, direction, first, lo, hi):
    """After ``forward``: how all outputs, and the slopes of the activations, change."""
    size = plan.itemsize
    for l in range(plan.n_layers):
        layer = layer_at(plan.layers, l)
        h, n_in = layer.n_out, layer.n_in
        start, stop = layer.deltas * plan.rows + lo * h, layer.deltas * plan.rows + hi * h
        at = plan.tangents + start * size
        if l == 0:
            affine(direction, first, lo, hi, at)
        else:
            below = layer_at(plan.layers, l - 1)
            gemm(
                plan, hi - lo, h, n_in,
                plan.units + (below.outputs * plan.rows + lo * n_in) * size, n_in, 1,
                direction.w + layer.weights * size, h, 1,
                1.0, direction.w + layer.biases * size, 0, at, h,
            )  # fmt: skip
            gemm(
                plan, hi - lo, h, n_in,
                plan.tangents + (below.deltas * plan.rows + lo * n_in) * size, n_in, 1,
                plan.w + layer.weights * size, h, 1, 1.0, at, h, at, h,
            )  # fmt: skip
        tangents = reals(plan, plan.tangents, start, stop)
        curvature = int64_at(plan.curvatures, l)
        if curvature != 0:
            bends = reals(plan, plan.bends, start, stop)
            copy_to(bends, tangents)
            multiply_by_derivative(plan, layer, lo, hi, curvature, bends)
        multiply_by_slope(plan, layer, l, lo, hi, tangents)


@njit
def multiply_by_slope(plan, layer, l, lo, hi, values):
    """``values *= φ′(z)`` for some rows of layer ``l``."""
    backward = int64_at(plan.activations, 2 * l + 1)
    if backward != 0:
        multiply_by_derivative(plan, layer, lo, hi, backward, values)


@njit
def multiply_by_derivative(plan, layer, lo, hi, derivative, values):
    outputs = layer.outputs * plan.rows
    raw = outputs if layer.raw < 0 else layer.raw * plan.rows
    h = layer.n_out
    call_activate_backward(
        derivative,
        reals(plan, plan.units, outputs + lo * h, outputs + hi * h),
        reals(plan, plan.units, raw + lo * h, raw + hi * h),
        values,
    )


@njit
def backpropagate_along(plan, direction, lo, hi, exact):
    """From the changes at the outputs to those at all layers; ``exact``: with the terms in δ."""
    size = plan.itemsize
    for l in range(plan.n_layers - 1, 0, -1):
        layer = layer_at(plan.layers, l)
        below = layer_at(plan.layers, l - 1)
        h, n_in = layer.n_out, layer.n_in
        source = (layer.deltas * plan.rows + lo * h) * size
        start, stop = below.deltas * plan.rows + lo * n_in, below.deltas * plan.rows + hi * n_in
        weights = layer.weights * size
        along, target = direction.delta + start * size, plan.delta + start * size
        gemm(
            plan, hi - lo, n_in, h, direction.delta + source, h, 1, plan.w + weights, 1, h,
            0.0, along, n_in, along, n_in,
        )  # fmt: skip
        changes = reals(plan, direction.delta, start, stop)
        if not exact:
            multiply_by_slope(plan, below, l - 1, lo, hi, changes)
            continue
        gemm(
            plan, hi - lo, n_in, h, plan.delta + source, h, 1, direction.w + weights, 1, h,
            1.0, along, n_in, along, n_in,
        )  # fmt: skip
        gemm(
            plan, hi - lo, n_in, h, plan.delta + source, h, 1, plan.w + weights, 1, h,
            0.0, target, n_in, target, n_in,
        )  # fmt: skip
        multiply_by_slope(plan, below, l - 1, lo, hi, changes)
        deltas = reals(plan, plan.delta, start, stop)
        if int64_at(plan.curvatures, l - 1) != 0:
            bends = reals(plan, plan.bends, start, stop)
            for p in range(changes.size):
                changes[p] += deltas[p] * bends[p]
        multiply_by_slope(plan, below, l - 1, lo, hi, deltas)


@njit
def changes_along(plan, direction, first, lo, hi, scale, exact):
    """All passes for the rows ``lo`` to ``hi`` of a block."""
    if lo == hi:
        return
    last = layer_at(plan.layers, plan.n_layers - 1)
    k = last.n_out
    load_targets(plan, first, lo, hi, scale)
    outputs = forward(plan, first, lo, hi, 0)
    forward_along(plan, direction, first, lo, hi)
    start, stop = last.deltas * plan.rows + lo * k, last.deltas * plan.rows + hi * k
    changes = reals(plan, direction.delta, start, stop)
    copy_to(changes, reals(plan, plan.tangents, start, stop))
    z = reals(plan, plan.units, outputs + lo * k, outputs + hi * k)
    targets = plan.targets + 4 * lo * plan.target_words
    weights = reals(plan, plan.weights, lo, hi)
    if exact:
        deltas = reals(plan, plan.delta, start, stop)
        call_loss(plan.loss, plan.loss_fields, z, targets, weights, hi - lo, k, deltas)
    call_loss_curvature(
        plan.loss_curvature, plan.loss_curvature_fields, z, targets, weights, hi - lo, k, changes
    )
    backpropagate_along(plan, direction, lo, hi, exact)
    if plan.pack_deltas != 0:
        call_pack_deltas(plan.pack_deltas, direction, lo, hi)
        if exact:
            call_pack_deltas(plan.pack_deltas, plan, lo, hi)


@njit
def add_tangent_products(plan, direction, chunk, n_rows):
    """``Σ Ra₋ᵀ δ`` for one chunk of the parameters; the input does not change."""
    size = plan.itemsize
    lo, hi = int64_at(plan.chunks, chunk), int64_at(plan.chunks, chunk + 1)
    for l in range(1, plan.n_layers):
        layer = layer_at(plan.layers, l)
        below = layer_at(plan.layers, l - 1)
        top, bottom = rows_of_chunk(layer, lo, hi)
        if top < bottom:
            tangents = plan.tangents + (below.deltas * plan.rows + top) * size
            grad = direction.grad
            gemm_by_deltas(plan, layer, 0, n_rows, tangents, 1.0, grad, grad, top, bottom)


@njit(entry=True)
def hessian_product(plans, exact):
    """The product of the Hessian, or of its Gauss–Newton part, goes to ``direction.grad``.

    Memory is bounded by blocks of ``plan.rows`` samples.
    """
    plan = plans[0]
    direction = plan_records(plan, plan.direction, 0, 1)[0]
    forget_lists(direction)
    scale = 1.0 / total_weight_of(plan, 0, plan.n_samples)
    for block in range((plan.n_samples + plan.rows - 1) // plan.rows):
        first = block * plan.rows
        n_rows = smaller(plan.rows, plan.n_samples - first)
        lo, hi = share(plan, n_rows, plan.loss_rows)
        changes_along(plan, direction, first, lo, hi, scale, exact)
        if not barrier(plan):
            break
        kept, source = (plan.alpha * scale, direction.w) if first == 0 else (1.0, direction.grad)
        chunk = next_piece(plan, -1, plan.n_chunks, block)
        while chunk < plan.n_chunks:
            chunk_gradient(direction, chunk, first, n_rows, kept, source, first > 0)
            if exact:
                add_tangent_products(plan, direction, chunk, n_rows)
            chunk = next_piece(plan, chunk, plan.n_chunks, block)
        if not barrier(plan):
            break
