"""Sparse samples, row by row or feature by feature: sums of listed rows of a matrix.

A sparse row times a matrix is a sum of those of the matrix's rows that its entries name.  So is the
gradient by what belongs to one feature: of the derivatives of those samples that have it.  The rows
of a batch are listed by features once, for all chunks of the gradient, each of which would else
search them for its own.

So many columns are summed at a time that they stay in registers from one row to the next; in memory
each would wait for itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic
from numpy.typing import NDArray

from fastgd._jit import njit
from fastgd.kernels.aligned import aligned_empty, aligned_zeros
from fastgd.kernels.packing import whole_registers
from fastgd.kernels.plan import (
    Plan,
    int32s,
    int64s,
    make_array,
    reals,
    row_number,
    size_of,
    smaller,
)
from fastgd.kernels.vectors import VECTOR_BYTES, Vectors

# What a plan has of them.
LISTS = ("listed_batch", "listed_starts", "listed_features", "listed_rows", "listed_values")
GROUP_BITS = 5  # the number of a feature without them is that of its group
FUSED = ("contract",)


def _sum(n_registers: int, is_whole: bool = True) -> Any:
    """Build the sum for so many registers of columns, or for what does not fill one."""

    @intrinsic
    def run(typingctx, indices, values, rows, h, n, kept, source, target):
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> None:
            indices, values = (
                make_array(kind)(context, builder, array)
                for kind, array in zip(sig.args[:2], args[:2], strict=True)
            )
            rows, h, n, kept, source, target = args[2:]
            element = values.data.type.pointee
            lanes = 8 * VECTOR_BYTES // sig.args[1].dtype.bitwidth
            vector = (
                whole_registers(builder, element, lanes, n_registers)
                if is_whole
                else Vectors(builder, element, lanes, 1, n)
            )
            rows, source, target = (
                builder.inttoptr(x, element.as_pointer()) for x in (rows, source, target)
            )
            sums = [cgutils.alloca_once(builder, vector.type) for _ in range(n_registers)]
            for slot in sums:
                builder.store(vector.zero, slot)
            is_kept = builder.fcmp_unordered("!=", kept, ir.Constant(element, 0.0))
            with builder.if_then(is_kept):
                kept = vector.broadcast(kept)
                for v, slot in enumerate(sums):
                    builder.store(builder.fmul(kept, vector.load(source, v)), slot)
            with cgutils.for_range(builder, indices.nitems) as loop:
                index = builder.load(builder.gep(indices.data, [loop.index]))
                index = index if index.type == h.type else builder.sext(index, h.type)
                row = builder.gep(rows, [builder.mul(index, h)])
                value = vector.broadcast(builder.load(builder.gep(values.data, [loop.index])))
                for v, slot in enumerate(sums):
                    product = builder.fmul(value, vector.load(row, v), flags=FUSED)
                    total = builder.fadd(builder.load(slot), product, flags=FUSED)
                    builder.store(total, slot)
            vector.store_rows([[builder.load(slot) for slot in sums]], target, h)

        i = types.intp
        return types.void(indices, values, i, i, i, values.dtype, i, i), codegen

    return run


_eight, _four, _one, _part = _sum(8), _sum(4), _sum(1), _sum(1, is_whole=False)


@njit
def sum_listed(indices, values, rows, h, kept, source, target):
    """``target = kept source + values @ rows[indices]``, in the order of the indices.

    Matrix and vectors have ``h`` columns and are given by their addresses; with a ``kept`` of 0 the
    source may be anything, and it may be the target.
    """
    real = values.dtype.type
    size = size_of(real(0.0))
    lanes, kept, j = VECTOR_BYTES // size, real(kept), 0
    while h - j >= 8 * lanes:
        at = j * size
        _eight(indices, values, rows + at, h, h, kept, source + at, target + at)
        j += 8 * lanes
    if h - j >= 4 * lanes:
        at = j * size
        _four(indices, values, rows + at, h, h, kept, source + at, target + at)
        j += 4 * lanes
    while h - j >= lanes:
        at = j * size
        _one(indices, values, rows + at, h, h, kept, source + at, target + at)
        j += lanes
    if j < h:
        at = j * size
        _part(indices, values, rows + at, h, h - j, kept, source + at, target + at)


@njit(inline=True)
def group_of(feature):
    """Number of the group of features whose entries are listed together."""
    return np.int64(feature) >> GROUP_BITS


def room_for_lists(indptr: NDArray[Any], n_features: int, rows: int, dtype: Any) -> dict[str, Any]:
    """What a plan needs to list any ``rows`` of the samples by features."""
    lengths = np.diff(indptr)
    longest = np.partition(lengths, lengths.size - rows)[-rows:] if rows < lengths.size else lengths
    return _room(rows, (n_features - 1 >> GROUP_BITS) + 1, int(longest.sum()), dtype)


def room_like(plan: Plan) -> dict[str, Any]:
    """The same once more, for another thread; nothing, where there is none."""
    if plan["listed_values"] is None:
        return {}
    sizes = (plan[name].size for name in ("listed_batch", "listed_starts", "listed_values"))
    n_batch, n_starts, n_entries = sizes
    return _room(n_batch - 1, n_starts - 2, n_entries, plan.dtype)


def _room(rows: int, n_groups: int, n_entries: int, dtype: Any) -> dict[str, Any]:
    return {
        "listed_batch": aligned_zeros(1 + rows, np.int64),
        "listed_starts": aligned_empty(n_groups + 2, np.int64),
        "listed_features": aligned_empty(n_entries, np.int32),
        "listed_rows": aligned_empty(n_entries, np.int32),
        "listed_values": aligned_empty(n_entries, dtype),
        "n_listed": n_entries,
    }


@njit
def _is_listed(plan, first, n_rows):
    """Whether the lists are of these rows; if not, they will be."""
    batch = int64s(plan, plan.listed_batch, 0, 1 + n_rows)
    n_other = batch[0] - n_rows
    batch[0] = n_rows
    for i in range(n_rows):
        row = row_number(plan, first + i)
        n_other |= batch[1 + i] ^ row
        batch[1 + i] = row
    return n_other == 0


def lists_of(index_view: Any) -> Any:
    """Build ``list_by_features`` for one type of index."""

    @njit
    def list_by_features(plan, first, n_rows):
        """List the entries of a batch by groups of features, if they are not; in the rows' order.

        Those of group ``i`` are from ``listed_starts[i]`` on, up to ``listed_starts[i + 1]``.
        Nothing else is written to if somebody changes X meanwhile.
        """
        if _is_listed(plan, first, n_rows):
            return
        # Counted two places on, so that in the end each place has moved on to the next one's start.
        last = group_of(plan.n_features - 1) + 2
        starts = int64s(plan, plan.listed_starts, 0, last + 1)
        starts[:] = 0
        for i in range(n_rows):
            row = row_number(plan, first + i)
            ends = index_view(plan, plan.indptr, row, row + 2)
            indices = index_view(plan, plan.indices, ends[0], ends[1])
            for p in range(indices.size):
                starts[smaller(group_of(indices[p]) + 2, last)] += 1
        for group in range(2, starts.size):
            starts[group] += starts[group - 1]
        features = int32s(plan, plan.listed_features, 0, plan.n_listed)
        rows = int32s(plan, plan.listed_rows, 0, plan.n_listed)
        listed = reals(plan, plan.listed_values, 0, plan.n_listed)
        for i in range(n_rows):
            row = row_number(plan, first + i)
            ends = index_view(plan, plan.indptr, row, row + 2)
            indices = index_view(plan, plan.indices, ends[0], ends[1])
            values = reals(plan, plan.values, ends[0], ends[1])
            for p in range(indices.size):
                group = smaller(group_of(indices[p]) + 1, last)
                place = starts[group]
                if place < plan.n_listed:
                    features[place], rows[place], listed[place] = indices[p], i, values[p]
                starts[group] = place + 1

    return list_by_features
