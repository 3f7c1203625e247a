"""The first layer of a network with many features, as the sum of what two halves of them give.

In a team of two each member begins with one half, for all rows of a batch, and may help the other
one out.  Other teams, and one thread alone, compute both for each row, and add the same numbers.
Compiled where a network needs it, and called by address: most have few features.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.core.extending import intrinsic

from fastgd._jit import native_address, njit
from fastgd.kernels.linalg import add_to, call_affine
from fastgd.kernels.parts import call_at
from fastgd.kernels.plan import larger, layer_at, plan_dtype, reals, smaller
from fastgd.kernels.shares import blocks_of, clock, note_cycles, own_blocks
from fastgd.kernels.team import HALVES, most_or_rest, next_piece


@njit
def each_has_a_half(plan):
    """Whether each of two members begins with one half of the features, for all rows of a batch."""
    return plan.middle != 0 and plan.size == 2


@njit
def half_of(plan, half, first, lo, hi):
    """What one half of the features gives to the first layer's raw values of some rows.

    The rows are those from ``lo`` to ``hi`` of the batch that begins at row ``first``.
    """
    layer = layer_at(plan.layers, 0)
    h, below = layer.n_out, lo * layer.n_out * plan.itemsize
    if half == 0:
        units = plan.units + layer.outputs * plan.rows * plan.itemsize + below
        biases = plan.w + layer.biases * plan.itemsize
        call_affine(plan.affine, plan, first, lo, hi, 0, plan.middle, 1.0, biases, 0, units)
    else:
        more, d = plan.part_units + below, plan.n_features
        call_affine(plan.affine, plan, first, lo, hi, plan.middle, d, 0.0, more, h, more)


def _own_half(plan, first, n_rows, round):
    if plan.deals_rows:
        piece = next_piece(plan, -1, 4, round, HALVES)
        while piece < 4:
            lo, hi = most_or_rest(0, n_rows, plan.loss_rows, piece)
            if lo < hi:
                half_of(plan, piece // 2, first, lo, hi)
            piece = next_piece(plan, piece, 4, round, HALVES)
        return
    shares = plan.half_shares if n_rows == plan.rows else 0
    n_blocks = blocks_of(plan, n_rows)
    lo, hi = own_blocks(plan, shares, 2 * n_blocks)
    started = clock()
    for half in range(2):
        a, b = larger(lo - half * n_blocks, 0), smaller(hi - half * n_blocks, n_blocks)
        if a < b:
            a, b = a * plan.loss_rows, smaller(b * plan.loss_rows, n_rows)
            half_of(plan, half, first, a, b)
    note_cycles(plan, shares, 2 * n_blocks, started)


def _both_halves(plan, first, lo, hi):
    if not each_has_a_half(plan):
        for half in range(2):
            half_of(plan, half, first, lo, hi)
    layer = layer_at(plan.layers, 0)
    h, start = layer.n_out, layer.outputs * plan.rows
    units = reals(plan, plan.units, start + lo * h, start + hi * h)
    add_to(units, reals(plan, plan.part_units, lo * h, hi * h))


def _signature(plan: Any) -> Any:
    return types.void(plan, *[types.int64] * 3)


@intrinsic
def call_own_half(typingctx, address, plan, first, n_rows, round):
    """Raw values of the first layer, by a team of two of which each begins with its own half.

    Of a batch of ``n_rows`` that begins at row ``first``.
    """
    return call_at(_signature(plan))


@intrinsic
def call_both_halves(typingctx, address, plan, first, lo, hi):
    """The first layer's raw values of some rows; where ``each_has_a_half``, of both halves.

    The rows are those from ``lo`` to ``hi`` of the batch that begins at row ``first``.
    """
    return call_at(_signature(plan))


@functools.cache
def halves_entries(dtype: np.dtype[Any]) -> dict[str, int]:
    """What a plan needs of this; compiles the code, or loads it, on its first use."""
    signature = _signature(numba.from_dtype(plan_dtype(dtype)))
    return {
        "own_half": native_address(_own_half, signature, f"{__name__}.own_half", ours=True),
        "both_halves": native_address(
            _both_halves, signature, f"{__name__}.both_halves", ours=True
        ),
    }
