"""Derivatives of wide layers in panels: packed once a batch, for all chunks of the gradient.

Rows of a wide layer lie far apart, and a product packs them (``fastgd.kernels.gemm``).  The
gradient by each chunk of the parameters would pack the same rows; here each member of a team does
it for its own share of the batch, as soon as it knows the derivatives.  So chunks can be so small
that an update finds in the cache what the gradient by its chunk has touched.

Compiled where a network needs it, and called by address: most have no wide layer.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.core.extending import intrinsic

from fastgd._jit import native_address, njit
from fastgd.kernels.gemm import gemm, gemm_by_panels
from fastgd.kernels.packing import PANEL_ROW_BYTES, pack_panels
from fastgd.kernels.parts import call_at
from fastgd.kernels.plan import layer_at, plan_dtype, size_of


@njit
def panels_of(plan, layer, row):
    """Where the panels of a layer have a row of the batch."""
    return plan.panels + layer.panels * plan.rows * plan.itemsize + row * PANEL_ROW_BYTES


def _pack_deltas(plan, lo, hi):
    size = size_of(plan.real)
    for l in range(plan.n_layers):
        layer = layer_at(plan.layers, l)
        if layer.panels >= 0:
            h = layer.n_out
            rows = plan.delta + (layer.deltas * plan.rows + lo * h) * size
            pack_panels(rows, h, hi - lo, h, panels_of(plan, layer, lo), plan.rows, plan.real)


def _signature(plan: Any) -> Any:
    return types.void(plan, types.int64, types.int64)


@intrinsic
def call_pack_deltas(typingctx, address, plan, lo, hi):
    """Pack the derivatives by the raw values of wide layers, rows ``lo`` to ``hi`` of a batch."""
    return call_at(_signature(plan))


@functools.cache
def panels_entry(dtype: np.dtype[Any]) -> dict[str, int]:
    """What a plan needs of this; compiles the code, or loads it, on its first use."""
    signature = _signature(numba.from_dtype(plan_dtype(dtype)))
    name = f"{__name__}.pack_deltas"
    return {"pack_deltas": native_address(_pack_deltas, signature, name, ours=True)}


@njit
def gemm_by_deltas(plan, layer, lo, hi, a, kept, source, target, top, bottom):
    """``target = A delta + kept source`` for the rows ``top`` to ``bottom`` of a layer's weights.

    Over the rows ``lo`` to ``hi`` of a batch.  Row ``top`` of A, the transpose of what the layer
    gets, begins at the address ``a``; ``source`` and ``target`` are addresses of vectors like
    ``w``.
    """
    size, h, n_in = plan.itemsize, layer.n_out, layer.n_in
    at = (layer.weights + top * h) * size
    if layer.panels >= 0 and plan.panels != 0:
        gemm_by_panels(
            plan, bottom - top, h, hi - lo, a, 1, n_in, panels_of(plan, layer, lo), plan.rows,
            kept, source + at, h, target + at, h,
        )  # fmt: skip
        return
    gemm(
        plan, bottom - top, h, hi - lo, a, 1, n_in,
        plan.delta + (layer.deltas * plan.rows + lo * h) * size, h, 1,
        kept, source + at, h, target + at, h,
    )  # fmt: skip
