"""Copies of parts of a matrix in the order in which tiles read them."""

from __future__ import annotations

import contextlib
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic

from fastgd.kernels.parts import call_at
from fastgd.kernels.plan import size_of, smaller
from fastgd.kernels.tiles import VECTOR_BYTES, Vectors

TOGETHER = 4  # columns that are written without asking whether there are so many


@intrinsic
def copy_row(typingctx, source, target, n, like):
    """Copy ``n`` numbers of the type of ``like``, at most two registers."""
    lanes = VECTOR_BYTES * 8 // like.bitwidth

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        element = context.get_value_type(like)
        vector = Vectors(builder, element, lanes, 2, args[2])
        source, target = (builder.inttoptr(x, element.as_pointer()) for x in args[:2])
        for v in range(2):
            vector.store(vector.load(source, v), target, v)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, like), codegen


@intrinsic
def _transpose(typingctx, source, row, n_rows, n_columns, target, like):
    """Write the transpose of at most a register's length of rows and columns.

    Rows of the target are two registers long.  They are written up to the first one's end, and up
    to TOGETHER - 1 more than there are columns; beyond the edges with anything.
    """
    lanes = VECTOR_BYTES * 8 // like.bitwidth

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, row, n_rows, n_columns, target, _ = args
        element, i64 = context.get_value_type(like), ir.IntType(64)
        source, target = (builder.inttoptr(x, element.as_pointer()) for x in (source, target))
        vector = Vectors(builder, element, lanes, 1, n_columns)
        last = builder.sub(n_rows, ir.Constant(i64, 1))
        rows = []
        for number in (ir.Constant(i64, i) for i in range(lanes)):
            # In place of those beyond the last, the last once more.
            i = builder.select(builder.icmp_signed("<", number, last), number, last)
            rows.append(vector.load(builder.gep(source, [builder.mul(i, row)]), 0))

        def write(registers: list[Any], first: int) -> None:
            """The columns from ``first`` on, which lie in parts in as many registers."""
            half = len(registers) // 2
            if half == 0:
                place = builder.gep(target, [ir.Constant(i64, 2 * lanes * first)])
                place = builder.bitcast(place, vector.type.as_pointer())
                builder.store(registers[0], place, align=like.bitwidth // 8)
                return
            pairs = [(registers[i], registers[i + half]) for i in range(half)]
            write([_left(builder, *pair, half) for pair in pairs], first)
            there = builder.icmp_signed(">", n_columns, ir.Constant(i64, first + half))
            with builder.if_then(there) if half >= TOGETHER else contextlib.nullcontext():
                write([_right(builder, *pair, half) for pair in pairs], first + half)

        write(rows, 0)
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, i, i, i, i, like), codegen


def _left(builder: Any, upper: Any, lower: Any, half: int) -> Any:
    """Of squares of ``half`` a side, every other one from the first on, above one another."""
    lanes = upper.type.count
    return _shuffle(
        builder, upper, lower, [j if not j & half else lanes + j - half for j in range(lanes)]
    )


def _right(builder: Any, upper: Any, lower: Any, half: int) -> Any:
    """The other squares."""
    lanes = upper.type.count
    return _shuffle(
        builder, upper, lower, [j + half if not j & half else lanes + j for j in range(lanes)]
    )


def _shuffle(builder: Any, first: Any, second: Any, places: list[int]) -> Any:
    order = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
    return builder.shuffle_vector(first, second, order)


def pack_transposed(b, b_col, k, width, panel, like):
    """Columns of a transposed B, which lie far apart, as rows of ``panel``.

    Up to TOGETHER - 1 more than the ``k`` rows are written to.
    """
    size, lanes = size_of(like), VECTOR_BYTES // size_of(like)
    for q in range(0, width, lanes):
        for p in range(0, k, lanes):
            _transpose(
                b + (q * b_col + p) * size, b_col, smaller(lanes, width - q), smaller(lanes, k - p),
                panel + (p * 2 * lanes + q) * size, like,
            )  # fmt: skip


def pack_signature(like: Any) -> Any:
    i = types.intp
    return types.void(i, i, i, i, i, like)


@intrinsic
def call_pack(typingctx, address, b, b_col, k, width, panel, like):
    """Call ``pack_transposed`` by its address."""
    return call_at(pack_signature(like))
