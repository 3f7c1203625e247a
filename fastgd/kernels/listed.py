"""Sparse samples, row by row or feature by feature: sums of listed rows of a matrix.

A sparse row times a matrix is a sum of those of the matrix's rows that its entries name.  So is the
gradient by what belongs to one feature: of the derivatives of those samples that have it.  The
entries of a batch are listed by groups of features once, for all chunks of the gradient, each of
which would else search every row for its own.

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
from fastgd.kernels.aligned import aligned_zeros
from fastgd.kernels.packing import whole_registers
from fastgd.kernels.plan import Plan, int32s, int64s, make_array, reals, row_number, size_of
from fastgd.kernels.vectors import VECTOR_BYTES, Vectors

# What a plan has of them.
LISTS = ("listed_batch", "listed_starts", "listed_features", "listed_rows", "listed_values")
# The number of a feature without these bits is that of its group.  Lists of single features would
# be so many that most are not in the cache; of a group a chunk leaves out what is not its own.
GROUP_BITS = 5
# Entries of a row for each chunk of the gradient, up to which lists are worth it, and of a batch.
LONGEST_ROWS, MOST_ENTRIES = 4, 2**21
LARGEST_INT32 = 2**31 - 1
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


def room_for_lists(
    indptr: NDArray[Any], n_features: int, rows: int, n_chunks: int, dtype: Any
) -> dict[str, Any]:
    """What a plan needs to list any ``rows`` of the samples; nothing, if a search is faster.

    To list costs something for each entry, to search for each row and chunk; so rows must not be
    long.  Nor may all their entries together, which are copied, take much memory.
    """
    lengths = np.diff(indptr)
    if lengths.sum() > LONGEST_ROWS * n_chunks * lengths.size or n_features > LARGEST_INT32:
        return {}
    if rows < lengths.size:
        lengths = np.partition(lengths, lengths.size - rows)[-rows:]
    n_entries = int(lengths.sum())
    if n_chunks < 2 or n_entries > MOST_ENTRIES:
        return {}
    return {
        "listed_batch": aligned_zeros(1 + rows, np.int64),
        "listed_starts": aligned_zeros((n_features - 1 >> GROUP_BITS) + 3, np.int64),
        "listed_features": aligned_zeros(n_entries, np.int32),
        "listed_rows": aligned_zeros(n_entries, np.int32),
        "listed_values": aligned_zeros(n_entries, dtype),
        "n_listed": n_entries,
    }


def room_like(plan: Plan) -> dict[str, Any]:
    """The same once more, for another thread."""
    kept = {name: plan[name] for name in LISTS if plan[name] is not None}
    return {name: aligned_zeros(array.size, array.dtype) for name, array in kept.items()}


@njit
def forget_lists(plan):
    """List the next batch, be it of the same rows: between two calls X may have changed."""
    if plan.listed_batch != 0:
        int64s(plan, plan.listed_batch, 0, 1)[0] = 0


@njit
def _is_new_batch(plan, first, n_rows):
    """Whether the lists are not of these rows; their numbers are noted."""
    batch = int64s(plan, plan.listed_batch, 0, 1 + n_rows)
    differ = batch[0] - n_rows
    batch[0] = n_rows
    for i in range(n_rows):
        row = row_number(plan, first + i)
        differ |= batch[1 + i] ^ row
        batch[1 + i] = row
    return differ != 0


def lists_of(index_view: Any) -> Any:
    """Build ``list_by_features`` for one type of index."""

    @njit
    def list_by_features(plan, first, n_rows):
        """List the entries of a batch by groups of features, if they are not.

        Those of group ``i`` are from ``listed_starts[i]`` on, up to ``listed_starts[i + 1]``, row
        after row.  Whatever somebody makes of X meanwhile, what is listed are features and rows
        that there are.
        """
        if not _is_new_batch(plan, first, n_rows):
            return
        # Counted two places on, so that in the end each place has moved on to the next one's start.
        n_features = plan.n_features
        starts = int64s(plan, plan.listed_starts, 0, group_of(n_features - 1) + 3)
        for group in range(starts.size):
            starts[group] = 0
        for i in range(n_rows):
            row = row_number(plan, first + i)
            ends = index_view(plan, plan.indptr, row, row + 2)
            indices = index_view(plan, plan.indices, ends[0], ends[1])
            for p in range(indices.size):
                if 0 <= indices[p] < n_features:
                    starts[group_of(indices[p]) + 2] += 1
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
                if 0 <= indices[p] < n_features:
                    group = group_of(indices[p])
                    place = starts[group + 1]
                    if place < plan.n_listed:
                        features[place], rows[place], listed[place] = indices[p], i, values[p]
                    starts[group + 1] = place + 1

    return list_by_features
