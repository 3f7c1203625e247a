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
from fastgd.kernels.plan import layer_at, plan_dtype, reals


@njit
def each_has_a_half(plan):
    """Whether each of two members begins with one half of the features, for all rows of a batch."""
    return plan.middle != 0 and plan.size == 2


def _half(plan, half, first, lo, hi):
    layer = layer_at(plan.layers, 0)
    h, below = layer.n_out, lo * layer.n_out * plan.itemsize
    if half == 0:
        units = plan.units + layer.outputs * plan.rows * plan.itemsize + below
        biases = plan.w + layer.biases * plan.itemsize
        call_affine(plan.affine, plan, first, lo, hi, 0, plan.middle, 1.0, biases, 0, units)
    else:
        more, d = plan.part_units + below, plan.n_features
        call_affine(plan.affine, plan, first, lo, hi, plan.middle, d, 0.0, more, h, more)


def _both_halves(plan, first, lo, hi):
    if not each_has_a_half(plan):
        for half in range(2):
            call_half(plan.half, plan, half, first, lo, hi)
    layer = layer_at(plan.layers, 0)
    h, start = layer.n_out, layer.outputs * plan.rows
    units = reals(plan, plan.units, start + lo * h, start + hi * h)
    add_to(units, reals(plan, plan.part_units, lo * h, hi * h))


def _half_signature(plan: Any) -> Any:
    return types.void(plan, *[types.int64] * 4)


def _both_signature(plan: Any) -> Any:
    return types.void(plan, *[types.int64] * 3)


@intrinsic
def call_half(typingctx, address, plan, half, first, lo, hi):
    """What one half of the features gives to the first layer's raw values of some rows.

    The rows are those from ``lo`` to ``hi`` of the batch that begins at row ``first``.
    """
    return call_at(_half_signature(plan))


@intrinsic
def call_both_halves(typingctx, address, plan, first, lo, hi):
    """The first layer's raw values of some rows; where ``each_has_a_half``, of both halves."""
    return call_at(_both_signature(plan))


@functools.cache
def halves_entries(dtype: np.dtype[Any]) -> dict[str, int]:
    """What a plan needs of this; compiles the code, or loads it, on its first use."""
    plan = numba.from_dtype(plan_dtype(dtype))
    return {
        "half": native_address(_half, _half_signature(plan), f"{__name__}.half", ours=True),
        "both_halves": native_address(
            _both_halves, _both_signature(plan), f"{__name__}.both_halves", ours=True
        ),
    }
