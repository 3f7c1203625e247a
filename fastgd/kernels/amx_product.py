"""float32 products by the matrix unit, from numbers in three bfloat16 pieces.

Six of the nine products of pieces are added; the others are less than the rounding of a float32
product.  The unit adds 16 terms before it adds them to a sum, so that the sums are more precise
than those of register tiles.  Pieces and their products below the normal numbers, 1e-38, count as
0; so numbers, and products, below 2¹⁶ times that lose digits.

As long as all sums are finite, an element of C is computed in the same way whatever the number of
rows, as by register tiles.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic

from fastgd._jit import njit
from fastgd.kernels.amx import (
    BLOCK,
    FLOAT_BYTES,
    STEP,
    STEP_BYTES,
    TILE,
    block_of_1_by_1,
    block_of_1_by_2,
    block_of_2_by_1,
    block_of_2_by_2,
    configure_tiles,
    release_tiles,
)
from fastgd.kernels.bfloat16 import TURNED_BYTES, pack_columns, pack_rows
from fastgd.kernels.parts import call_product
from fastgd.kernels.plan import array_at, smaller
from fastgd.kernels.tiles import store_sums
from fastgd.kernels.vectors import Vectors

DEPTH = 512  # k is cut into blocks of this length
PACKED_ROWS, PACKED_COLUMNS = 8 * BLOCK, 4 * BLOCK  # at a time, so that they stay in the L2
SUMS_BYTES = BLOCK * BLOCK * FLOAT_BYTES
PANEL_BYTES = DEPTH // STEP * STEP_BYTES
# After the sums of a block; behind the columns the unit loads some that are no longer needed.
SQUARE = SUMS_BYTES
ROWS = SQUARE + TURNED_BYTES
COLUMNS = ROWS + PACKED_ROWS // BLOCK * PANEL_BYTES
ROOM_BYTES = COLUMNS + PACKED_COLUMNS // BLOCK * PANEL_BYTES + STEP_BYTES
# Numbers of B, and columns of B and terms of a sum, from which the unit is faster.  Neither depends
# on the number of rows, which threads share.
LEAST_NUMBERS, LEAST_SIDE = 2**17, 64


@intrinsic
def _add_row(typingctx, sums, n, beta, d, c):
    """``C = sums + beta D`` for ``n`` numbers, at most 32, if the sums are finite.

    Returns whether they are.
    """
    i = types.intp

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        sums, n, beta, d, c = args
        real = ir.FloatType()
        vector = Vectors(builder, real, TILE, 2, n)
        sums, d, c = (builder.inttoptr(x, real.as_pointer()) for x in (sums, d, c))
        row = [vector.load(sums, v) for v in range(2)]
        nothing = builder.fmul(builder.fadd(*row), vector.zero)
        are_finite = builder.bitcast(
            builder.fcmp_ordered("==", nothing, vector.zero), ir.IntType(TILE)
        )
        all_are = builder.icmp_unsigned("==", are_finite, ir.Constant(ir.IntType(TILE), -1))
        with builder.if_then(all_are, likely=True):
            store_sums(builder, vector, real, [row], beta, d, n, c, n)
        return all_are

    return types.boolean(i, i, beta, i, i), codegen


@njit
def _multiply_block(height, width, steps, rows, columns, sums):
    """The sums of a block of C, at most 32 by 32 numbers."""
    if height > TILE and width > TILE:
        block_of_2_by_2(steps, rows, columns, sums)
    elif height > TILE:
        block_of_2_by_1(steps, rows, columns, sums)
    elif width > TILE:
        block_of_1_by_2(steps, rows, columns, sums)
    else:
        block_of_1_by_1(steps, rows, columns, sums)


@njit
def _slab(plan, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, d, d_row, c, c_row):
    """The product where k is at most DEPTH, and m at most PACKED_ROWS."""
    size, sums, square = FLOAT_BYTES, plan.pieces, plan.pieces + SQUARE
    rows, columns = plan.pieces + ROWS, plan.pieces + COLUMNS
    steps = (k + STEP - 1) // STEP
    pack_rows(plan, a, a_row, a_col, m, k, square, rows)
    for j in range(0, n, BLOCK):
        part = j % PACKED_COLUMNS
        if part == 0:
            n_packed = smaller(PACKED_COLUMNS, n - j)
            pack_columns(plan, b + j * b_col * size, b_row, b_col, n_packed, k, square, columns)
        width = smaller(BLOCK, n - j)
        for i in range(0, m, BLOCK):
            height = smaller(BLOCK, m - i)
            _multiply_block(
                height, width, steps, rows + i // BLOCK * steps * STEP_BYTES,
                columns + part // BLOCK * steps * STEP_BYTES, sums,
            )  # fmt: skip
            for r in range(height):
                source = d + ((i + r) * d_row + j) * size
                target = c + ((i + r) * c_row + j) * size
                if not _add_row(sums + r * BLOCK * size, width, beta, source, target):
                    # Infinity less infinity is NaN: the pieces of what is infinite, or of what has
                    # become so, do not add up.  What is one seldom comes alone, so tiles have all
                    # the rows that are left of the block.
                    call_product(
                        plan.product_by_tiles, plan, height - r, width, k,
                        a + (i + r) * a_row * size, a_row, a_col, b + j * b_col * size, b_row,
                        b_col, beta, source, d_row, target, c_row,
                    )  # fmt: skip
                    break


@njit
def multiply_by_amx(plan, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, d, d_row, c, c_row):
    """``C = A B + beta D`` by addresses, whatever the sizes."""
    size, one = FLOAT_BYTES, array_at(c, 1, beta).dtype.type(1.0)
    configure_tiles()
    for p in range(0, k, DEPTH):
        for i in range(0, m, PACKED_ROWS):
            _slab(
                plan, smaller(PACKED_ROWS, m - i), n, smaller(DEPTH, k - p),
                a + (i * a_row + p * a_col) * size, a_row, a_col, b + p * b_row * size, b_row,
                b_col, beta, d + i * d_row * size, d_row, c + i * c_row * size, c_row,
            )  # fmt: skip
        beta, d, d_row = one, c, c_row
    release_tiles()


def product_by_amx(plan, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, d, d_row, c, c_row):
    """The same, but by register tiles where these are faster."""
    if n * k >= LEAST_NUMBERS and n >= LEAST_SIDE and k >= LEAST_SIDE:
        multiply_by_amx(plan, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, d, d_row, c, c_row)
    else:
        call_product(
            plan.product_by_tiles, plan, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, d, d_row,
            c, c_row,
        )  # fmt: skip
