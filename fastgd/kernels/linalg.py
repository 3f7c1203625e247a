"""The two kinds of input matrix, dense and CSR: gather, products, and outer products of rows.

Each is compiled by itself and called by its address, so that nobody waits for the code of the
other kind.
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
from fastgd.kernels.aligned import CACHE_LINE
from fastgd.kernels.gemm import gemm
from fastgd.kernels.listed import group_of, lists_of, sum_listed
from fastgd.kernels.panels import gemm_by_deltas
from fastgd.kernels.parts import NOTHING, Part, call_at
from fastgd.kernels.plan import (
    copy_to,
    int32s,
    int64_at,
    int64s,
    layer_at,
    plan_dtype,
    prefetch,
    reals,
    row_number,
    smaller,
)

# Rows of so many bytes together may wait in the second-level cache for their batch.
SOON_BYTES = 2**16


class Dense(NamedTuple):
    """A C-contiguous matrix (N, D) as one flat array."""

    values: NDArray[Any]
    n_features: int


class CSR(NamedTuple):
    """A sparse matrix (N, D) in compressed rows, never made dense.

    For ``call_accumulate`` the indices of each row are in ascending order.
    """

    data: NDArray[Any]
    indices: NDArray[Any]
    indptr: NDArray[Any]
    n_features: int


def input_entries(X: Dense | CSR, dtype: Any) -> dict[str, Any]:
    """What a plan needs for an input matrix."""
    if isinstance(X, Dense):
        arrays = {"values": X.values, "n_features": X.n_features}
    else:
        arrays = {
            "values": X.data, "indices": X.indices, "indptr": X.indptr, "n_features": X.n_features,
        }  # fmt: skip
    affine, accumulate = input_code(kind_of(X), np.dtype(dtype))
    return {
        **arrays,
        "affine": NOTHING._replace(address=affine),
        "accumulate": NOTHING._replace(address=accumulate),
    }


def outer_entry(X: Dense | CSR, dtype: Any) -> Part:
    """What a plan needs besides for the Jacobian."""
    return NOTHING._replace(address=outer_code(kind_of(X), np.dtype(dtype)))


def kind_of(X: Dense | CSR) -> str:
    """Name of the code for an input matrix."""
    if isinstance(X, Dense):
        return "dense"
    return "csr32" if X.indices.dtype.itemsize == 4 else "csr64"


def affine_signature(plan: Any) -> Any:
    i, f = types.int64, types.float64
    return types.void(plan, i, i, i, i, i, f, i, i, i)


def accumulate_signature(plan: Any) -> Any:
    i, f = types.int64, types.float64
    return types.void(plan, i, i, i, f, i, i, i, i)


def outer_signature(plan: Any) -> Any:
    i = types.int64
    return types.void(plan, i, i, i, i, i)


@intrinsic
def call_affine(
    typingctx, address, plan, first, lo, hi, left, right, kept, source, source_row, out
):
    """``out = X[rows, left:right] W[left:right] + kept source`` for the first layer.

    The rows are those from ``lo`` to ``hi`` of the batch that begins at row ``first``; of sparse
    ones all columns are meant.  ``out`` and ``source`` are addresses; a row of the source lies
    ``source_row`` numbers after the one before.
    """
    return call_at(affine_signature(plan))


@intrinsic
def call_accumulate(typingctx, address, plan, first, lo, hi, kept, source, target, top, bottom):
    """``target = X[rows]ᵀ delta + kept source`` for the first layer, after ``call_affine``.

    For the rows ``top`` to ``bottom`` of its weights, over the rows ``lo`` to ``hi`` of the batch;
    ``source`` and ``target`` are addresses of vectors like ``w``.
    """
    return call_at(accumulate_signature(plan))


@intrinsic
def call_outer(typingctx, address, plan, first, lo, hi, out, stride):
    """Products of the derivatives by the first layer's raw values with the rows of the input.

    That of row ``lo + i``, a matrix like the first layer's weights, goes to the address
    ``out + i stride``.
    """
    return call_at(outer_signature(plan))


@functools.cache
def input_code(kind: str, dtype: np.dtype[Any]) -> tuple[int, int]:
    """Addresses of the two functions for a kind of input; compiles them on their first use."""
    plan = numba.from_dtype(plan_dtype(dtype))
    affine, accumulate, _ = KINDS[kind]
    return (
        native_address(affine, affine_signature(plan), f"{__name__}.{kind}.affine", ours=True),
        native_address(
            accumulate, accumulate_signature(plan), f"{__name__}.{kind}.accumulate", ours=True
        ),
    )


@functools.cache
def outer_code(kind: str, dtype: np.dtype[Any]) -> int:
    """Address of the third one, which few ask for."""
    plan = numba.from_dtype(plan_dtype(dtype))
    name = f"{__name__}.{kind}.outer"
    return native_address(KINDS[kind][2], outer_signature(plan), name, ours=True)


@njit
def affine(plan, first, lo, hi, out):
    """``out = X[rows] W + b`` for the first layer; see ``call_affine``."""
    biases = plan.w + layer_at(plan.layers, 0).biases * plan.itemsize
    call_affine(plan.affine, plan, first, lo, hi, 0, plan.n_features, 1.0, biases, 0, out)


def dense_affine(plan, first, lo, hi, left, right, kept, source, source_row, out):
    """Rows in another order are gathered in ``plan.x`` before."""
    layer = layer_at(plan.layers, 0)
    d, h = plan.n_features, layer.n_out
    x = plan.values + ((first + lo) * d + left) * plan.itemsize
    if plan.order != 0:
        n_bytes = (right - left) * plan.itemsize
        is_short = (hi - lo) * n_bytes <= SOON_BYTES
        for i in range(lo, hi):
            row = int64_at(plan.order, first + i)
            copy_to(
                reals(plan, plan.x, i * d + left, i * d + right),
                reals(plan, plan.values, row * d + left, row * d + right),
            )
            # No processor foresees where the rows of the next batch lie.
            following = first + i + plan.rows
            if is_short and following < plan.n_samples:
                row = int64_at(plan.order, following)
                for at in range(0, n_bytes, CACHE_LINE):
                    prefetch(plan.values + (row * d + left) * plan.itemsize + at)
        x = plan.x + (lo * d + left) * plan.itemsize
    gemm(
        plan, hi - lo, h, right - left, x, d, 1,
        plan.w + (layer.weights + left * h) * plan.itemsize, h, 1,
        kept, source, source_row, out, h,
    )  # fmt: skip


def dense_accumulate(plan, first, lo, hi, kept, source, target, top, bottom):
    layer, d = layer_at(plan.layers, 0), plan.n_features
    x = plan.x if plan.order != 0 else plan.values + first * d * plan.itemsize
    x += (lo * d + top) * plan.itemsize
    gemm_by_deltas(plan, layer, lo, hi, x, kept, source, target, top, bottom)


def dense_outer(plan, first, lo, hi, out, stride):
    layer = layer_at(plan.layers, 0)
    d, h = plan.n_features, layer.n_out
    deltas = reals(plan, plan.delta, layer.deltas * plan.rows, layer.deltas * plan.rows + hi * h)
    for i in range(lo, hi):
        row = reals(plan, plan.values, (first + i) * d, (first + i + 1) * d)
        target = reals(plan, out + (i - lo) * stride, 0, d * h)
        outer(row, deltas[i * h : (i + 1) * h], target)


@njit
def outer(a, b, target):
    """``target = a bᵀ``, row after row."""
    for p in range(a.size):
        for q in range(b.size):
            target[p * b.size + q] = a[p] * b[q]


@njit
def add_multiple(target, factor, source):
    """``target += factor source``."""
    for j in range(target.size):
        target[j] += factor * source[j]


@njit
def add_to(target, source):
    """``target += source``."""
    for j in range(target.size):
        target[j] += source[j]


# So many squares are added in the precision of the numbers: half the time.  That is a few dozen for
# each place of the registers that they are added in.
STRIP = 2048
# Between these no square that counts was lost, and none was infinite, in float32 either.
SMALLEST_SUM, LARGEST_SUM = 1e-20, 1e37


@njit(reduction=True)
def sum_of_squares(x):
    """Σ x² as a float64 number, to the precision of ``x``."""
    total = 0.0
    for start in range(0, x.size, STRIP):
        strip = x[start : smaller(start + STRIP, x.size)]
        part = x.dtype.type(0.0)
        for i in range(strip.size):
            part += strip[i] * strip[i]
        total += np.float64(part)
    return made_sure(total, x)


@njit(reduction=True)
def sums_of_squares(x, y):
    """``sum_of_squares`` of two arrays of one length.

    From the first-level cache in the time of one, whose terms wait for one another.
    """
    total_x, total_y = 0.0, 0.0
    for start in range(0, x.size, STRIP):
        a = x[start : smaller(start + STRIP, x.size)]
        b = y[start : smaller(start + STRIP, x.size)]
        part_a = x.dtype.type(0.0)
        part_b = x.dtype.type(0.0)
        for i in range(a.size):
            part_a += a[i] * a[i]
            part_b += b[i] * b[i]
        total_x += np.float64(part_a)
        total_y += np.float64(part_b)
    return made_sure(total_x, x), made_sure(total_y, y)


@njit
def made_sure(total, x):
    """A sum of the squares of ``x``, added anew where it may have lost some of them."""
    return total if SMALLEST_SUM < total < LARGEST_SUM else double_sum_of_squares(x)


@njit(reduction=True)
def sum_of(x):
    """Σ x: NaN or infinite if a number of ``x`` is; it may be infinite without."""
    total = x.dtype.type(0.0)
    for i in range(x.size):
        total += x[i]
    return np.float64(total)


@njit(reduction=True)
def double_sum_of_squares(x):
    """Σ x² in float64."""
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i]) * np.float64(x[i])
    return total


@njit(reduction=True)
def n_below(indices, limit):
    """How many of some indices are less than ``limit``: where in ascending order the others begin.

    A binary search in the few dozen of a row takes as long: it waits for each look.
    """
    n = 0
    for p in range(indices.size):
        n += indices[p] < limit
    return n


@njit(inline=True)
def _add_listed(plan, lo, target, top, bottom):
    """Add what the listed entries give to the gradient; see ``call_accumulate``."""
    layer = layer_at(plan.layers, 0)
    h = layer.n_out
    start = int64_at(plan.listed_starts, group_of(top))
    stop = int64_at(plan.listed_starts, group_of(bottom - 1) + 1)
    # Or somebody has changed X meanwhile.
    start, stop = smaller(start, plan.n_listed), smaller(stop, plan.n_listed)
    features = int32s(plan, plan.listed_features, start, stop)
    rows = int32s(plan, plan.listed_rows, start, stop)
    values = reals(plan, plan.listed_values, start, stop)
    for p in range(stop - start):
        if top <= features[p] < bottom:
            place = layer.weights + np.int64(features[p]) * h
            deltas = layer.deltas * plan.rows + (lo + rows[p]) * h
            add_multiple(
                reals(plan, target, place, place + h), values[p],
                reals(plan, plan.delta, deltas, deltas + h),
            )  # fmt: skip


def _csr(index_view: Any) -> tuple[Any, Any, Any]:
    """Build the three for one type of index."""

    def affine(plan, first, lo, hi, left, right, kept, source, source_row, out):
        layer = layer_at(plan.layers, 0)
        h, size = layer.n_out, plan.itemsize
        weights = plan.w + layer.weights * size
        for i in range(lo, hi):
            row = row_number(plan, first + i)
            ends = index_view(plan, plan.indptr, row, row + 2)
            indices = index_view(plan, plan.indices, ends[0], ends[1])
            values = reals(plan, plan.values, ends[0], ends[1])
            sum_listed(
                indices, values, weights, h, kept, source + (i - lo) * source_row * size,
                out + (i - lo) * h * size,
            )  # fmt: skip

    list_by_features = lists_of(index_view)

    def accumulate(plan, first, lo, hi, kept, source, target, top, bottom):
        layer = layer_at(plan.layers, 0)
        h = layer.n_out
        start, stop = layer.weights + top * h, layer.weights + bottom * h
        grad, old = reals(plan, target, start, stop), reals(plan, source, start, stop)
        real = grad.dtype.type
        rest, nothing = real(kept), real(0.0)
        for p in range(grad.size):
            grad[p] = rest * old[p] if kept != 0.0 else nothing
        if plan.listed_batch != 0:
            list_by_features(plan, first + lo, hi - lo)
            _add_listed(plan, lo, target, top, bottom)
            return
        for i in range(lo, hi):
            row = row_number(plan, first + i)
            deltas = layer.deltas * plan.rows + i * h
            slopes = reals(plan, plan.delta, deltas, deltas + h)
            ends = index_view(plan, plan.indptr, row, row + 2)
            indices = index_view(plan, plan.indices, ends[0], ends[1])
            values = reals(plan, plan.values, ends[0], ends[1])
            p = n_below(indices, top)
            while p < indices.size and indices[p] < bottom:
                feature = np.int64(indices[p])
                if feature >= top:  # or somebody has put X out of order meanwhile
                    start = layer.weights + feature * h
                    grad = reals(plan, target, start, start + h)
                    add_multiple(grad, values[p], slopes)
                p += 1

    def outer(plan, first, lo, hi, out, stride):
        layer = layer_at(plan.layers, 0)
        h = layer.n_out
        for i in range(lo, hi):
            target = reals(plan, out + (i - lo) * stride, 0, layer.n_in * h)
            for p in range(target.size):
                target[p] = 0
            deltas = layer.deltas * plan.rows + i * h
            slopes = reals(plan, plan.delta, deltas, deltas + h)
            ends = index_view(plan, plan.indptr, first + i, first + i + 2)
            indices = index_view(plan, plan.indices, ends[0], ends[1])
            values = reals(plan, plan.values, ends[0], ends[1])
            for p in range(indices.size):
                start = np.int64(indices[p]) * h
                # Added, because an entry may be stored in several pieces.
                add_multiple(target[start : start + h], values[p], slopes)

    return affine, accumulate, outer


KINDS = {
    "dense": (dense_affine, dense_accumulate, dense_outer),
    "csr32": _csr(int32s),
    "csr64": _csr(int64s),
}
