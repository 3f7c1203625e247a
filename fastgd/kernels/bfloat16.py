"""float32 numbers as sums of three bfloat16 ones, in the order in which the matrix unit reads them.

A bfloat16 number is the upper half of a float32 one, of whose 24 binary digits it has 8.  So three
of them are the whole number::

    x = x₁ + x₂ + x₃,    x₁ = cut(x),  x₂ = round(x - x₁),  x₃ = x - x₁ - x₂

Henry, Tang & Heinecke 2019, "Leveraging the bfloat16 artificial intelligence datatype for
higher-precision computations".  x₂ is rounded, or all that is left out of a product of two such
sums would have the sign of the product.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from fastgd._jit import njit
from fastgd.kernels.amx import BLOCK, FLOAT_BYTES, ROW_BYTES, STEP, STEP_BYTES, TILE, TILE_BYTES
from fastgd.kernels.packing import TOGETHER, call_pack
from fastgd.kernels.plan import larger, smaller
from fastgd.kernels.vectors import Vectors

BITS = ir.VectorType(ir.IntType(32), TILE)
I64 = ir.IntType(64)
TURNED_BYTES = (STEP + TOGETHER) * BLOCK * FLOAT_BYTES  # of a transposed square


def _each(number: int) -> Any:
    return ir.Constant(BITS, [number] * TILE)


UPPER_HALF, HALF_OF_ITS_LAST_DIGIT = _each(0xFFFF0000), _each(0x8000)


def _pieces(builder: Any, x: Any) -> list[Any]:
    """For each piece of x the bits of a number of which it is the upper half."""
    bits = builder.bitcast(x, BITS)
    rest = builder.fsub(x, builder.bitcast(builder.and_(bits, UPPER_HALF), x.type))
    second = builder.add(builder.bitcast(rest, BITS), HALF_OF_ITS_LAST_DIGIT)
    rounded = builder.bitcast(builder.and_(second, UPPER_HALF), x.type)
    return [bits, second, builder.bitcast(builder.fsub(rest, rounded), BITS)]


@intrinsic
def _write_pieces(typingctx, first, second, n_rows, row, target, n_first, n_second):
    """Write the pieces of ``n_rows`` pairs of rows, interleaved, each as a row of a tile.

    Rows of each of the two lie ``row`` bytes apart.  The first ``n_first`` and ``n_second`` of 16
    numbers are read; the others count as 0.
    """
    i = types.intp

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first, second, n_rows, row, target, n_first, n_second = args
        real = ir.FloatType()
        vectors = [Vectors(builder, real, TILE, 1, n) for n in (n_first, n_second)]
        with cgutils.for_range(builder, n_rows) as loop:
            moved = builder.mul(loop.index, row)
            pieces = []
            for vector, source in zip(vectors, (first, second), strict=True):
                place = builder.inttoptr(builder.add(source, moved), real.as_pointer())
                pieces.append(_pieces(builder, vector.load(place, 0)))
            place = builder.add(target, builder.mul(loop.index, I64(ROW_BYTES)))
            for number, (low, high) in enumerate(zip(*pieces, strict=True)):
                low = builder.lshr(low, _each(16))
                high = builder.and_(high, UPPER_HALF)
                at = builder.add(place, I64(2 * TILE_BYTES * number))
                at = builder.inttoptr(at, BITS.as_pointer())
                builder.store(builder.or_(low, high), at, align=ROW_BYTES)
        return context.get_dummy_value()

    return types.void(i, i, i, i, i, i, i), codegen


@njit(inline=True)
def _between(number, most):
    """The number, but at least 0 and at most ``most``."""
    return larger(0, smaller(number, most))


@njit(inline=True)
def _square(plan, source, column, n_rows, n_columns, room):
    """Where a part of a matrix lies row after row: there, or in ``room``, if it was transposed."""
    if column == 1:
        return source
    call_pack(plan.pack, source, column, n_rows, n_columns, room, plan.real)
    return room


@njit
def pack_rows(plan, source, row, column, n, k, room, target):
    """The pieces of ``n`` rows of A, ``k`` numbers each.

    Of 32 rows and 32 columns, the columns i and i + 16 lie side by side in a row of a tile.  32
    rows take ``STEP_BYTES`` for each 32 columns.  Rows that are not there are left as they are.
    ``room`` is where ``TURNED_BYTES`` may be written.
    """
    block_bytes = (k + STEP - 1) // STEP * STEP_BYTES
    next_row = (row if column == 1 else STEP) * FLOAT_BYTES
    for p in range(0, k, STEP):
        first, second = _between(k - p, TILE), _between(k - p - TILE, TILE)
        for i in range(0, n, BLOCK):
            n_rows = smaller(BLOCK, n - i)
            at = source + (p * column + i * row) * FLOAT_BYTES
            at = _square(plan, at, column, n_rows, smaller(STEP, k - p), room)
            tile = target + i // BLOCK * block_bytes + p // STEP * STEP_BYTES
            for t in range(0, n_rows, TILE):
                here = at + t * next_row
                _write_pieces(
                    here, here + TILE * FLOAT_BYTES, smaller(TILE, n_rows - t), next_row,
                    tile + t * ROW_BYTES, first, second,
                )  # fmt: skip


@njit
def pack_columns(plan, source, row, column, n, k, room, target):
    """The pieces of ``n`` columns of B, ``k`` numbers each, in the same order.

    Of 32 rows and 32 columns, the rows i and i + 16 lie side by side in a row of a tile.
    """
    block_bytes = (k + STEP - 1) // STEP * STEP_BYTES
    next_row = (row if column == 1 else STEP) * FLOAT_BYTES
    for p in range(0, k, STEP):
        first, second = _between(k - p, TILE), _between(k - p - TILE, TILE)
        for j in range(0, n, BLOCK):
            n_columns = smaller(BLOCK, n - j)
            at = source + (p * row + j * column) * FLOAT_BYTES
            at = _square(plan, at, column, smaller(STEP, k - p), n_columns, room)
            tile = target + j // BLOCK * block_bytes + p // STEP * STEP_BYTES
            for t in range(0, n_columns, TILE):
                here, width = at + t * FLOAT_BYTES, smaller(TILE, n_columns - t)
                place = tile + t * ROW_BYTES
                _write_pieces(here, here + TILE * next_row, second, next_row, place, width, width)
                if second < TILE:  # then rows without a second one, and rows without any
                    here, place = here + second * next_row, place + second * ROW_BYTES
                    _write_pieces(here, here, first - second, next_row, place, width, 0)
                    place += (first - second) * ROW_BYTES
                    _write_pieces(here, here, TILE - first, 0, place, 0, 0)
