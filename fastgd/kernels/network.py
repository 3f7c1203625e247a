"""Forward pass, backpropagation, and the objective of a dense network.

The objective is the weighted mean over samples of the loss summed over outputs, plus
``alpha / 2 · ‖weights‖² / Σ sample_weight``; biases are not penalised.

Shape letters: N samples, B rows of a batch, D features, K outputs, n parameters.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numba
import numpy as np
from numba.core import types
from numba.core.extending import intrinsic
from numpy.typing import NDArray

from fastgd._jit import native_address, njit
from fastgd.kernels.aligned import LINE_NUMBERS
from fastgd.kernels.gemm import gemm
from fastgd.kernels.halves import call_both_halves
from fastgd.kernels.linalg import (
    CSR,
    Dense,
    add_to,
    affine,
    call_accumulate,
    sum_of,
    sum_of_squares,
)
from fastgd.kernels.listed import forget_lists
from fastgd.kernels.panels import call_pack_deltas, gemm_by_deltas
from fastgd.kernels.parts import (
    call_activate,
    call_activate_backward,
    call_at,
    call_drop,
    call_link,
    call_loss,
)
from fastgd.kernels.plan import (
    Plan,
    copy_to,
    float64_at,
    float64s,
    int32s,
    int64_at,
    int64s,
    larger,
    layer_at,
    plan_dtype,
    reals,
    row_number,
    smaller,
)
from fastgd.kernels.shares import blocks_of, clock, note_cycles, own_blocks, share_anew
from fastgd.kernels.team import ROWS, barrier, most_or_rest, next_piece, part_of

NARROW = 64  # columns


class Data(NamedTuple):
    """Samples as the kernels take them."""

    X: Dense | CSR
    y: NDArray[Any]  # (N, K) of X's dtype, or (N, 1) class numbers
    weight: NDArray[Any]  # (N,), or (0,) where all samples weigh the same


@njit
def forward(plan, first, lo, hi, step):
    """Raw outputs for the rows ``lo`` to ``hi`` of the batch that begins at row ``first``.

    Returns where the outputs of the batch begin in ``plan.units``.  ``step`` decides the dropout
    masks.  Where ``each_has_a_half``, both halves of all rows are there already.
    """
    size = plan.itemsize
    start = 0
    for l in range(plan.n_layers):
        layer = layer_at(plan.layers, l)
        h = layer.n_out
        below = start
        start = layer.outputs * plan.rows
        at = plan.units + (start + lo * h) * size
        if l == 0:
            if plan.middle == 0:
                affine(plan, first, lo, hi, at)
            else:
                call_both_halves(plan.both_halves, plan, first, lo, hi)
        else:
            gemm(
                plan, hi - lo, h, layer.n_in, plan.units + (below + lo * layer.n_in) * size,
                layer.n_in, 1, plan.w + layer.weights * size, h, 1,
                1.0, plan.w + layer.biases * size, 0, at, h,
            )  # fmt: skip
        outputs = reals(plan, plan.units, start + lo * h, start + hi * h)
        if layer.raw >= 0:
            raw = layer.raw * plan.rows
            copy_to(reals(plan, plan.units, raw + lo * h, raw + hi * h), outputs)
        activate = int64_at(plan.activations, 2 * l)
        if activate != 0:
            call_activate(activate, outputs)
        if plan.dropout != 0 and layer.dropout > 0.0:
            undropped = layer.undropped * plan.rows
            copy_to(reals(plan, plan.units, undropped + lo * h, undropped + hi * h), outputs)
            call_drop(plan.dropout, plan.dropout_fields, outputs, lo * h, layer.dropout, step, l)
    return start


@njit
def backpropagate(plan, lo, hi, step):
    """From the derivatives by the raw outputs to those by the raw values of all layers.

    For the rows ``lo`` to ``hi`` of a batch; all lie in ``plan.delta``.
    """
    size = plan.itemsize
    for l in range(plan.n_layers - 1, 0, -1):
        layer = layer_at(plan.layers, l)
        below = layer_at(plan.layers, l - 1)
        h, n_in = layer.n_out, layer.n_in
        source = plan.delta + (layer.deltas * plan.rows + lo * h) * size
        start, stop = below.deltas * plan.rows + lo * n_in, below.deltas * plan.rows + hi * n_in
        target = plan.delta + start * size
        gemm(
            plan, hi - lo, n_in, h, source, h, 1, plan.w + layer.weights * size, 1, h,
            0.0, target, n_in, target, n_in,
        )  # fmt: skip
        delta = reals(plan, plan.delta, start, stop)
        outputs = below.outputs * plan.rows
        if plan.dropout != 0 and below.dropout > 0.0:
            call_drop(
                plan.dropout, plan.dropout_fields, delta, lo * n_in, below.dropout, step, l - 1
            )
            outputs = below.undropped * plan.rows
        activate_backward = int64_at(plan.activations, 2 * l - 1)
        if activate_backward != 0:
            raw = outputs if below.raw < 0 else below.raw * plan.rows
            call_activate_backward(
                activate_backward,
                reals(plan, plan.units, outputs + lo * n_in, outputs + hi * n_in),
                reals(plan, plan.units, raw + lo * n_in, raw + hi * n_in),
                delta,
            )


@njit
def chunk_gradient(plan, chunk, first, n_rows, kept, source, keep_biases):
    """Gradient by one chunk of the parameters, over all rows of a batch; see ``gradient``."""
    lo, hi = int64_at(plan.chunks, chunk), int64_at(plan.chunks, chunk + 1)
    gradient(plan, lo, hi, first, 0, n_rows, kept, source, plan.grad, keep_biases)


@njit
def n_parameters_of(plan):
    """Length of the parameter vector."""
    last = layer_at(plan.layers, plan.n_layers - 1)
    return last.biases + last.n_out


@njit
def gradient(plan, start, stop, first, lo, hi, kept, source, target, keep_biases):
    """Gradient by the parameters from ``start`` to ``stop``, whole rows of the weights.

    Over the rows ``lo`` to ``hi`` of a batch, after the two passes::

        target = gradient + kept · source

    for the weights, which adds the penalty, or what earlier blocks of rows gave, without another
    pass over memory; both are addresses of vectors like ``w``.  Biases grow if ``keep_biases``.
    """
    size = plan.itemsize
    for l in range(plan.n_layers):
        layer = layer_at(plan.layers, l)
        h = layer.n_out
        top, bottom = rows_of_chunk(layer, start, stop)
        if top < bottom:
            if l == 0:
                call_accumulate(
                    plan.accumulate, plan, first, lo, hi, kept, source, target, top, bottom
                )
            else:
                below = layer_at(plan.layers, l - 1)
                units = plan.units + (below.outputs * plan.rows + lo * layer.n_in + top) * size
                gemm_by_deltas(plan, layer, lo, hi, units, kept, source, target, top, bottom)
        if start <= layer.biases < stop:
            deltas = plan.delta + (layer.deltas * plan.rows + lo * h) * size
            sum_rows(plan, deltas, hi - lo, h, keep_biases, target + layer.biases * size)


@njit
def rows_of_chunk(layer, lo, hi):
    """Which rows of a layer's weights lie between two places of the parameter vector.

    Chunks consist of whole rows.
    """
    top = larger(lo - layer.weights, 0) // layer.n_out
    return top, smaller(hi - layer.weights, layer.n_in * layer.n_out) // layer.n_out


@njit
def sum_rows(plan, rows, n_rows, h, keep, target):
    """Column sums of ``rows``, added to what is at ``target`` if ``keep``."""
    if h <= NARROW:
        # A sum in memory would wait, row after row, for itself; a product has it in registers.
        kept = 1.0 if keep else 0.0
        gemm(
            plan, 1, h, n_rows, plan.ones, n_rows, 1, rows, h, 1, kept, target, h, target, h,
        )  # fmt: skip
        return
    sums = reals(plan, target, 0, h)
    if not keep:
        for j in range(h):
            sums[j] = 0
    for i in range(n_rows):
        add_to(sums, reals(plan, rows, i * h, (i + 1) * h))


@njit
def total_weight_of(plan, first, n_rows):
    """Sum of the weights of a batch."""
    if plan.weight == 0:
        return np.float64(n_rows)
    total = 0.0
    weight = reals(plan, plan.weight, 0, plan.n_samples)
    for i in range(first, first + n_rows):
        total += np.float64(weight[row_number(plan, i)])
    return total


@njit
def load_targets(plan, first, lo, hi, scale):
    """Copy targets and weights of the rows ``lo`` to ``hi`` of a batch together.

    The weights are multiplied by ``scale``, so that sums over rows become means.
    """
    k = plan.target_words
    weight = reals(plan, plan.weight, 0, plan.n_samples)
    weights = reals(plan, plan.weights, 0, plan.rows)
    for i in range(lo, hi):
        row = row_number(plan, first + i)
        target = int32s(plan, plan.targets, i * k, (i + 1) * k)
        source = int32s(plan, plan.y, row * k, (row + 1) * k)
        if k > 2:
            copy_to(target, source)
        else:  # one number, or a class number: a call takes longer than that
            target[0], target[k - 1] = source[0], source[k - 1]
        weights[i] = scale if plan.weight == 0 else scale * np.float64(weight[row])


def _losses_and_deltas(plan, first, lo, hi, scale, step, with_deltas):
    if lo == hi:
        return
    last = layer_at(plan.layers, plan.n_layers - 1)
    k, deltas = last.n_out, last.deltas * plan.rows
    load_targets(plan, first, lo, hi, scale)
    start = forward(plan, first, lo, hi, step)
    # Rounding the scale has changed all weights alike.
    exact = 1.0 if plan.weight != 0 else scale / np.float64(reals(plan, plan.weights, lo, hi)[0])
    # By blocks, so that the sum over all does not depend on who has which.
    for a in range(lo, hi, plan.loss_rows):
        b = smaller(a + plan.loss_rows, hi)
        place = a // plan.loss_rows * LINE_NUMBERS
        float64s(plan, plan.losses, place, place + 1)[0] = exact * call_loss(
            plan.loss, plan.loss_fields, reals(plan, plan.units, start + a * k, start + b * k),
            plan.targets + 4 * a * plan.target_words, reals(plan, plan.weights, a, b), b - a, k,
            reals(plan, plan.delta, deltas + a * k, deltas + b * k),
        )  # fmt: skip
    if with_deltas:
        backpropagate(plan, lo, hi, step)
        if plan.pack_deltas != 0:
            call_pack_deltas(plan.pack_deltas, plan, lo, hi)


# Called by its address: it is as much code as all the rest of what trains, so that two processes
# can compile a half each, and several solvers call it.


def losses_and_deltas_signature(plan: Any) -> Any:
    return types.void(plan, *[types.int64] * 3, types.float64, types.int64, types.boolean)


@functools.cache
def losses_and_deltas_entry(dtype: np.dtype[Any]) -> dict[str, int]:
    """What a plan needs of it; compiles the code, or loads it, on its first use."""
    signature = losses_and_deltas_signature(numba.from_dtype(plan_dtype(dtype)))
    name = f"{__name__}.losses_and_deltas"
    return {"losses_and_deltas": native_address(_losses_and_deltas, signature, name, ours=True)}


@intrinsic
def call_losses_and_deltas(typingctx, address, plan, first, lo, hi, scale, step, with_deltas):
    """Forward and back for the rows ``lo`` to ``hi`` of a batch, whole blocks of them.

    The sum of the weighted losses of each block goes to ``plan.losses``; see ``load_targets``.
    """
    return call_at(losses_and_deltas_signature(plan))


@njit
def pass_through(plan, first, n_rows, scale, step, with_deltas, round):
    """Forward and back for a batch by all members of a team; see ``call_losses_and_deltas``."""
    if plan.size == 1:
        call_losses_and_deltas(
            plan.losses_and_deltas, plan, first, 0, n_rows, scale, step, with_deltas
        )
        return
    if not plan.deals_rows:
        # A short batch has equal shares, and tells nothing about long ones.
        shares = plan.shares if n_rows == plan.rows else 0
        n_blocks = blocks_of(plan, n_rows)
        lo, hi = own_blocks(plan, shares, n_blocks)
        started = clock()
        call_losses_and_deltas(
            plan.losses_and_deltas, plan, first, smaller(lo * plan.loss_rows, n_rows),
            smaller(hi * plan.loss_rows, n_rows), scale, step, with_deltas,
        )  # fmt: skip
        note_cycles(plan, shares, n_blocks, started)
        return
    piece = next_piece(plan, -1, 2 * plan.size, round, ROWS)
    while piece < 2 * plan.size:
        lo, hi = part_of(n_rows, plan.loss_rows, piece // 2, plan.size)
        lo, hi = most_or_rest(lo, hi, plan.loss_rows, piece)
        call_losses_and_deltas(
            plan.losses_and_deltas, plan, first, lo, hi, scale, step, with_deltas
        )
        piece = next_piece(plan, piece, 2 * plan.size, round, ROWS)


@njit
def total_loss(plan, n_rows):
    """Sum over the blocks of a batch."""
    total = 0.0
    for block in range(blocks_of(plan, n_rows)):
        total += float64_at(plan.losses, block * LINE_NUMBERS)
    return total


@njit
def number_largest(z, k, codes):
    """Place of the largest number of each row of ``k``; of the first NaN, if there is one."""
    for i in range(codes.size):
        row = z[i * k : (i + 1) * k]
        place, largest = 0, row[0]
        for j in range(1, k):
            if row[j] > largest or (row[j] != row[j] and largest == largest):
                place, largest = j, row[j]
        codes[i] = place


@njit(entry=True)
def predict_blocks(plans):
    """Predict all samples, block by block of rows, into ``plan.out`` or ``plan.codes``."""
    plan = plans[0]
    k = layer_at(plan.layers, plan.n_layers - 1).n_out
    n_blocks = (plan.n_samples + plan.rows - 1) // plan.rows
    block = next_piece(plan, -1, n_blocks, 0)
    while block < n_blocks:
        first = block * plan.rows
        n_rows = smaller(plan.rows, plan.n_samples - first)
        start = forward(plan, first, 0, n_rows, 0)
        if plan.input_sum != 0:
            # While the rows are in the cache.
            rows = reals(
                plan, plan.values, first * plan.n_features, (first + n_rows) * plan.n_features
            )
            float64s(plan, plan.input_sum, 0, 1)[0] += sum_of(rows)
        z = reals(plan, plan.units, start, start + n_rows * k)
        if plan.link != 0:
            call_link(plan.link, plan.link_fields, z, n_rows, k)
        if plan.out != 0:
            copy_to(reals(plan, plan.out, first * k, (first + n_rows) * k), z)
        if plan.codes != 0:
            number_largest(z, k, int64s(plan, plan.codes, first, first + n_rows))
        block = next_piece(plan, block, n_blocks, 0)


@njit(entry=True)
def objective(plans, with_gradient):
    """Value of the objective as (data term, penalty); its gradient goes to ``plan.grad``.

    Memory is bounded by blocks of ``plan.rows`` samples.
    """
    plan = plans[0]
    forget_lists(plan)
    scale = 1.0 / total_weight_of(plan, 0, plan.n_samples)
    value = 0.0
    for block in range((plan.n_samples + plan.rows - 1) // plan.rows):
        first = block * plan.rows
        n_rows = smaller(plan.rows, plan.n_samples - first)
        pass_through(plan, first, n_rows, scale, 0, with_gradient, block)
        if not barrier(plan):
            break
        value += total_loss(plan, n_rows)
        share_anew(plan, n_rows)
        if with_gradient:
            kept, source = (scale * plan.alpha, plan.w) if first == 0 else (1.0, plan.grad)
            chunk = next_piece(plan, -1, plan.n_chunks, block)
            while chunk < plan.n_chunks:
                chunk_gradient(plan, chunk, first, n_rows, kept, source, first > 0)
                chunk = next_piece(plan, chunk, plan.n_chunks, block)
        if not barrier(plan):
            break
    penalty = 0.0
    if plan.alpha != 0.0:
        n_weights = layer_at(plan.layers, 0).biases
        squares = sum_of_squares(reals(plan, plan.w, 0, n_weights))
        penalty = 0.5 * plan.alpha * squares * scale
    return value, penalty


@functools.cache
def objective_types(dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Types of the arguments of ``objective`` in a precision."""
    return numba.typeof(Plan(dtype).record), types.boolean


def compile_objective(dtype: np.dtype[Any]) -> None:
    """Compile ``objective``, or load it, before it is called."""
    objective.compile(objective_types(dtype))
