"""Matrix products: register tiles where the CPU has the instructions, else BLAS.

As in Goto & van de Geijn 2008, "Anatomy of high-performance matrix multiplication", but packed only
where it pays: where B is transposed, and where rows lie so far apart that they push each other out
of the cache.

An element of C is summed over k in the same order whatever the number of rows, so a product that
several threads share by rows gives the same bits as one thread alone.

Large float32 products of many rows are left to the matrix unit of the processor, if it has one.

At 32 × 64 × 32 a call to BLAS costs three times what the product costs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from fastgd._jit import native_address, njit
from fastgd.kernels.aligned import aligned_empty
from fastgd.kernels.amx import has_amx
from fastgd.kernels.amx_product import LEAST_NUMBERS, ROOM_BYTES, product_by_amx
from fastgd.kernels.packing import (
    FAR_BYTES,
    IN_PANELS,
    PANEL_ROW_BYTES,
    PANELS,
    call_pack,
    copy_row,
    is_far,
    pack_panels,
    pack_signature,
    pack_tiles,
    pack_transposed,
)
from fastgd.kernels.parts import call_product, product_signature
from fastgd.kernels.plan import array_at, larger, plan_dtype, size_of, smaller
from fastgd.kernels.tiles import (
    HAS_TILES,
    ROW_BYTES,
    TILE_ROWS,
    call_tiles,
    column_of_tiles,
    tiles_signature,
)
from fastgd.kernels.vectors import VECTOR_BYTES
from fastgd.kernels.zeros import call_without_zeros, without_zeros_code, zeros_entries

DEPTH = 1024  # k is cut into blocks of this length, so that a packed panel of B stays in the L2
PACKED_ROWS = 22 * TILE_ROWS  # of A at a time
OFTEN = 48  # rows or columns of C
# Rows that lie a multiple of this apart fall into the same few lines of the first-level cache, more
# of them in a tile than there are; so they are copied to where they lie one line farther apart.
ALIAS_BYTES, PADDING = 4096, 64
# Multiplications below which neither cutting nor packing is thought about, nor the matrix unit: the
# number of rows must not decide about that one.
SMALL = LEAST_NUMBERS


@intrinsic
def _blas(typingctx, transpose_a, transpose_b, m, n, k, a, lda, b, ldb, beta, c, ldc):
    """Row-major ``C = op(A) op(B) + beta C`` by the BLAS behind ``np.dot``."""
    i = types.intp
    flag = types.boolean
    signature = types.void(flag, flag, i, i, i, i, i, i, i, beta, i, i)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> None:
        char, size, pointer = ir.IntType(8), ir.IntType(64), cgutils.voidptr_t
        transpose_a, transpose_b, m, n, k, a, lda, b, ldb, beta, c, ldc = args

        def letter(value: Any) -> Any:
            yes, no = ir.Constant(char, ord("t")), ir.Constant(char, ord("n"))
            return builder.select(value, yes, no)

        def slot(value: Any) -> Any:
            return builder.bitcast(cgutils.alloca_once_value(builder, value), pointer)

        a, b, c = (builder.inttoptr(address, pointer) for address in (a, b, c))
        kind = ir.Constant(char, ord("s" if sig.args[9] == types.float32 else "d"))
        # BLAS counts by columns: the transpose of a row-major product, operands exchanged.
        values = [kind, letter(transpose_b), letter(transpose_a), n, m, k]
        values += [slot(ir.Constant(beta.type, 1.0)), b, ldb, a, lda, slot(beta), c, ldc]
        kinds = [char] * 3 + [size] * 3
        kinds += [pointer, pointer, size, pointer, size, pointer, pointer, size]
        declared = ir.FunctionType(ir.IntType(32), kinds)
        name = "numba_xxgemm"
        builder.call(cgutils.get_or_insert_function(builder.module, declared, name), values)

    return signature, codegen


@njit
def _falls_together(a_row, a_col, n, like):
    """Whether the rows of A alias, and each is used so often that a copy is worth it."""
    return a_col == 1 and a_row * size_of(like) % ALIAS_BYTES == 0 and n >= 4 * OFTEN


@njit(inline=True)
def _width(m, n, b_col, size):
    """How many of ``n`` columns of C are computed together."""
    if m == b_col == 1 and n * size >= ROW_BYTES:
        return ROW_BYTES // size
    return smaller(n, 2 * VECTOR_BYTES // size)


@njit(inline=True)
def _slab(plan, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, d, d_row, c, c_row):
    """The product where k is at most DEPTH, and m at most PACKED_ROWS if A may be packed."""
    size = size_of(beta)
    two = 2 * VECTOR_BYTES // size
    panel, packed = plan.panel, plan.packed
    j = 0
    if plan.without_zeros != 0:
        # Whole columns, or whole rows; here comes what is left.
        done = call_without_zeros(
            plan.without_zeros, plan, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, d, d_row,
            c, c_row,
        )  # fmt: skip
        if done == n or done == -m:
            return
        i, j = larger(-done, 0), larger(done, 0)
        m, a = m - i, a + i * a_row * size
        d, c = d + i * d_row * size, c + i * c_row * size
    far_a = a_row == 1 and a_col * size > FAR_BYTES and n - j >= OFTEN
    far_b = b_col == 1 and m >= OFTEN and is_far(b_row * size)
    rows = TILE_ROWS if far_a else m
    if far_a:
        pack_tiles(m, k, a, a_col, packed, beta)
        a, a_col = packed, rows
    if _falls_together(a_row, a_col, n - j, beta):
        row = k + PADDING // size
        for i in range(m):
            for p in range(0, k, two):
                copy_row(
                    a + (i * a_row + p) * size, packed + (i * row + p) * size, smaller(two, k - p),
                    beta,
                )  # fmt: skip
        a, a_row = packed, row
    while j < n:
        width = _width(m, n - j, b_col, size)
        columns, row = b + j * b_col * size, b_row
        if b_col == IN_PANELS:
            columns, row = b + j * b_row * size, two
        elif b_col != 1:
            call_pack(plan.pack, columns, b_col, k, width, panel, beta)
            columns, row = panel, two
        elif far_b:
            part = j // two % PANELS
            if part == 0:
                pack_panels(columns, b_row, k, smaller(PANELS * two, n - j), panel, k, beta)
            columns, row = panel + part * two * k * size, two
        for i in range(0, m, rows):
            call_tiles(
                plan.tiles, smaller(rows, m - i), width, k, a + i * k * size, a_row, a_col,
                columns, row, beta, d + (i * d_row + j) * size, d_row,
                c + (i * c_row + j) * size, c_row,
            )  # fmt: skip
        j += width


@njit(reduction=True)
def _dot(x, y, k, like):
    """Scalar product of ``k`` numbers at two addresses."""
    a, b = array_at(x, k, like), array_at(y, k, like)
    total = a.dtype.type(0.0)
    for p in range(k):
        total += a[p] * b[p]
    return total


def _product_by_tiles(plan, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, d, d_row, c, c_row):
    """``C = A B + beta D`` by addresses."""
    size = size_of(beta)
    if n == a_col == b_row == 1:
        # A column of C has one number for each register of a tile, but rows of A fill theirs.
        for i in range(m):
            total = _dot(a + i * a_row * size, b, k, beta)
            if beta != 0.0:
                total += beta * array_at(d + i * d_row * size, 1, beta)[0]
            array_at(c + i * c_row * size, 1, beta)[0] = total
        return
    if n == a_row == c_row == d_row == 1:
        # As the row that is its transpose, a column fills whole registers.
        m, n, a, b = n, m, b, a
        a_row, a_col, b_row, b_col = b_col, b_row, a_col, a_row
    one = array_at(c, 1, beta).dtype.type(1.0)
    b_step = PANEL_ROW_BYTES // size if b_col == IN_PANELS else b_row
    rows = PACKED_ROWS if a_row == 1 or _falls_together(a_row, a_col, n, beta) else m
    for p in range(0, k, DEPTH):
        depth = smaller(DEPTH, k - p)
        for i in range(0, m, rows):
            _slab(
                plan, smaller(rows, m - i), n, depth,
                a + (i * a_row + p * a_col) * size, a_row, a_col,
                b + p * b_step * size, b_row, b_col, beta, d + i * d_row * size, d_row,
                c + i * c_row * size, c_row,
            )  # fmt: skip
        beta, d, d_row = one, c, c_row


def _product_by_blas(plan, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, d, d_row, c, c_row):
    """The same where there are no tiles."""
    size = size_of(beta)
    if beta != 0.0:
        for i in range(m):
            for j in range(n):
                added = array_at(d + (i * d_row + j) * size, 1, beta)[0]
                array_at(c + (i * c_row + j) * size, 1, beta)[0] = added
    _blas(
        a_col != 1, b_col != 1, m, n, k, a, a_col if a_col != 1 else larger(a_row, k),
        b, b_col if b_col != 1 else larger(b_row, n), beta, c, c_row,
    )  # fmt: skip


@functools.cache
def product_code(dtype: np.dtype[Any], by_blas: bool) -> dict[str, int]:
    """Addresses of the product, and if it is made of tiles, of these and of what packs for them."""
    signature = product_signature(numba.from_dtype(plan_dtype(dtype)))
    if by_blas:
        # Numba looks for a BLAS when it compiles a product of its own, which it never does here.
        from numba.np.linalg import ensure_blas

        ensure_blas()
        name = f"{__name__}.product_by_blas"
        product = native_address(_product_by_blas, signature, name, ours=True)
        return {"product": product, "tiles": 0, "pack": 0}
    real = numba.from_dtype(dtype)
    return {
        name: native_address(function, signature, f"{__name__}.{name}", ours=True)
        for name, function, signature in (
            ("product", _product_by_tiles, signature),
            ("tiles", column_of_tiles, tiles_signature(real)),
            ("pack", pack_transposed, pack_signature(real)),
        )
    }


@functools.cache
def amx_product_code() -> int:
    """Address of the float32 product by the matrix unit."""
    signature = product_signature(numba.from_dtype(plan_dtype(np.dtype(np.float32))))
    return native_address(product_by_amx, signature, f"{__name__}.product_by_amx", ours=True)


def tasks_of_products(
    dtype: np.dtype[Any], by_amx: bool, with_zeros: bool
) -> list[Callable[[], Any]]:
    """What ``product_entries`` compiles, as tasks for whoever has time."""
    tasks: list[Callable[[], Any]] = [partial(product_code, dtype, not HAS_TILES)]
    if with_zeros:
        tasks.append(partial(without_zeros_code, dtype))
    if by_amx and multiplies_by_amx(dtype):
        tasks.insert(0, amx_product_code)
    return tasks


def multiplies_by_amx(dtype: np.dtype[Any]) -> bool:
    """Whether there is a matrix unit for products of this precision."""
    return HAS_TILES and dtype == np.float32 and has_amx()


def product_entries(
    dtype: Any,
    longest: int,
    by_blas: bool = not HAS_TILES,
    by_amx: bool = False,
    with_zeros: bool = False,
) -> dict[str, Any]:
    """What a plan needs for products; compiles the code, or loads it, on its first use.

    ``longest`` is the largest k of a product; ``by_amx`` says whether large float32 ones may be
    given to the matrix unit, if there is one; ``with_zeros`` whether it is worth it to look for
    zeros in those that are made of tiles.
    """
    dtype = np.dtype(dtype)
    depth, lanes = min(longest, DEPTH), VECTOR_BYTES // dtype.itemsize
    entries = {
        **product_code(dtype, by_blas),
        "without_zeros": 0,
        "panel": aligned_empty((PANELS * depth + lanes) * 2 * lanes, dtype),
        "packed": aligned_empty((depth + PADDING // dtype.itemsize) * PACKED_ROWS, dtype),
    }
    if with_zeros and not by_blas:
        entries |= zeros_entries(dtype, depth)
    if by_amx and not by_blas and multiplies_by_amx(dtype):
        entries["product_by_tiles"], entries["product"] = entries["product"], amx_product_code()
        entries["pieces"] = aligned_empty(ROOM_BYTES, np.uint8)
    return entries


@njit(inline=True)
def gemm(plan, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, d, d_row, c, c_row):
    """``C = A B + beta D`` for matrices at addresses, in the precision of the plan.

    Parameters
    ----------
    plan : record
    m, n, k : int
        A is (m, k), B is (k, n), C and D are (m, n); all at least 1.
    beta : float
        With a beta of 0, D may be anything.
    a, b, c, d : int
        Addresses of the first elements; D may be C.
    a_row, a_col, b_row, b_col : int
        Elements from one row to the next, and from one column to the next, one of which is 1:
        (columns, 1) for a row-major matrix, (1, rows) for a transposed one.
    c_row, d_row : int
        The same for rows of C and D; a d_row of 0 adds one row to all.
    """
    # Longer sums are cut, whatever the number of rows; a single column is not made of tiles.
    if n > 1 and k <= DEPTH and m * n * k < SMALL and plan.tiles != 0:
        size = size_of(plan.real)
        two = 2 * VECTOR_BYTES // size
        real = array_at(c, 1, plan.real).dtype.type
        j = 0
        while j < n:
            at, width = j * size, _width(m, n - j, b_col, size)
            columns, row = b + at * b_col, b_row
            if b_col != 1:
                call_pack(plan.pack, columns, b_col, k, width, plan.panel, plan.real)
                columns, row = plan.panel, two
            call_tiles(
                plan.tiles, m, width, k, a, a_row, a_col, columns, row, real(beta),
                d + at, d_row, c + at, c_row,
            )  # fmt: skip
            j += width
        return
    call_product(
        plan.product, plan, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, d, d_row,
        c, c_row,
    )  # fmt: skip


@njit(inline=True)
def gemm_by_panels(plan, m, n, k, a, a_row, a_col, panels, n_rows, beta, d, d_row, c, c_row):
    """``gemm`` where B, of more than one column, was packed by ``pack_panels``.

    That is into panels of ``n_rows`` rows.  The products are those of tiles; the matrix unit and
    BLAS know no panels.
    """
    call_product(
        plan.product, plan, m, n, k, a, a_row, a_col, panels, n_rows, IN_PANELS, beta, d, d_row,
        c, c_row,
    )  # fmt: skip
