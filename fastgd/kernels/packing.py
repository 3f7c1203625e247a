"""Copies of parts of a matrix in the order in which tiles read them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic

from fastgd._jit import njit
from fastgd.kernels.parts import call_at
from fastgd.kernels.plan import size_of, smaller
from fastgd.kernels.tiles import TILE_ROWS
from fastgd.kernels.vectors import SHORT_REGISTERS, VECTOR_BYTES, Vectors, shuffle

PANEL_ROW_BYTES = 2 * VECTOR_BYTES
PANELS = 4  # of B, that are packed together
TOGETHER = 4  # columns that are written without asking whether there are so many
FAR_BYTES = 2048  # rows that lie farther apart than this are packed, if they are used often enough
# Tiles of short registers have half as many rows and ask for rows of B twice as often; it matters
# sooner whether these are in the first-level cache, where rows so far apart share a few lines.
CROWDED_BYTES = 512
# In place of the distance between columns of a B that was packed as panels before; in place of that
# between rows there is then the number of rows of a panel.
IN_PANELS = 0


@njit
def is_far(step):
    """Whether rows of B, so many bytes apart, push each other out of the first-level cache."""
    return step > FAR_BYTES or (SHORT_REGISTERS and step % CROWDED_BYTES == 0)


@intrinsic
def copy_row(typingctx, source, target, n, like):
    """Copy ``n`` numbers of the type of ``like``, at most two registers."""
    lanes = VECTOR_BYTES * 8 // like.bitwidth

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, target, n, _ = args
        element = context.get_value_type(like)
        for vector in two_registers(builder, element, lanes, n):
            _copy(builder, vector, source, target)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, like), codegen


@intrinsic
def _copy_tile_rows(typingctx, source, target, like):
    """Copy TILE_ROWS numbers, and those that follow them up to the end of a register."""
    lanes = VECTOR_BYTES * 8 // like.bitwidth

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = whole_registers(
            builder, context.get_value_type(like), lanes, -(-TILE_ROWS // lanes)
        )
        _copy(builder, vector, *args[:2])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, like), codegen


def two_registers(builder: Any, element: Any, lanes: int, n: Any) -> Iterator[Vectors]:
    """Branch on whether two registers in a row of ``n`` columns are there; for each, how to load.

    The usual case asks neither for masks nor for the width of what is left.  To be gone through to
    the end.
    """
    full = builder.icmp_signed("==", n, ir.Constant(n.type, 2 * lanes))
    with builder.if_else(full) as (then, otherwise):
        with then:
            yield whole_registers(builder, element, lanes, 2)
        with otherwise:
            yield Vectors(builder, element, lanes, 2, n)


def whole_registers(builder: Any, element: Any, lanes: int, count: int) -> Vectors:
    """So many registers, all of which are there."""
    n = ir.Constant(ir.IntType(64), count * lanes)
    return Vectors(builder, element, lanes, count, n, masked=False)


def _copy(builder: Any, vector: Vectors, source: Any, target: Any) -> None:
    pointer = vector.type.element.as_pointer()
    source, target = (builder.inttoptr(address, pointer) for address in (source, target))
    for v in range(vector.count):
        vector.store(vector.load(source, v), target, v)


@njit
def pack_panels(b, b_row, k, n, panels, n_rows, like):
    """Some rows of B, ``k`` of them, of ``n`` columns, as rows of panels two registers wide.

    The panels lie one after another, of ``n_rows`` rows each.
    """
    size = size_of(like)
    two = PANEL_ROW_BYTES // size
    # Several panels at once: the rows lie far apart, and each way there is long.
    for start in range(0, n, PANELS * two):
        stop = smaller(start + PANELS * two, n)
        for p in range(k):
            for j in range(start, stop, two):
                place = panels + (j * n_rows + p * two) * size
                copy_row(b + (p * b_row + j) * size, place, smaller(two, n - j), like)


@njit(inline=True)
def pack_tiles(m, k, a, a_col, target, like):
    """Rows of a transposed A, TILE_ROWS of them together: column after column as a tile reads them.

    Columns of A lie farther apart than two registers.
    """
    size = size_of(like)
    for i in range(0, m, TILE_ROWS):
        tile, step = target + i * k * size, TILE_ROWS * size
        # What is copied too much is written over by the next column, but that of the last one,
        # behind which nothing may be read either.
        for p in range(k - 1):
            _copy_tile_rows(a + (p * a_col + i) * size, tile + p * step, like)
        last = a + ((k - 1) * a_col + i) * size
        copy_row(last, tile + (k - 1) * step, smaller(TILE_ROWS, m - i), like)


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
    return shuffle(
        builder, upper, [j if not j & half else lanes + j - half for j in range(lanes)], lower
    )


def _right(builder: Any, upper: Any, lower: Any, half: int) -> Any:
    """The other squares."""
    lanes = upper.type.count
    return shuffle(
        builder, upper, [j + half if not j & half else lanes + j for j in range(lanes)], lower
    )


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
