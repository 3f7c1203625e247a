"""Matrix products that leave out the zeros of a factor.

Half of what ReLU units put out is 0, and so is half of the derivatives that pass back through
them; of images and counts often more.  A row of C is the sum of as many rows of B as the row of A
has numbers that are not 0, which masks tell (``fastgd.kernels.masks``).  So many columns of C are
computed together that their sums fill eight registers, over 64 terms at a time: so many rows of B
stay in the first-level cache.  Where it is B that has zeros, the transpose of C is computed so.

For each term of each row of C a row of B is loaded, where a tile (``fastgd.kernels.tiles``) loads
it once for several; so some of the numbers must be 0 to be worth it.  The terms that are left
are added in the same order.  Of finite numbers that gives the same sums, bit by bit but for the
sign of a 0; but 0 times infinity, which else is NaN, is left out, too.

Compiled where a network has products so large, and called by address.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from fastgd._jit import native_address, njit
from fastgd.kernels.aligned import aligned_empty
from fastgd.kernels.masks import BYTE, WORD, find_masks, share_of_zeros
from fastgd.kernels.packing import (
    IN_PANELS,
    PANEL_ROW_BYTES,
    call_pack,
    is_far,
    pack_panels,
    two_registers,
    whole_registers,
)
from fastgd.kernels.parts import call_at, product_signature
from fastgd.kernels.plan import array_at, copy_to, int64_at, larger, plan_dtype, size_of, smaller
from fastgd.kernels.tiles import hidden, store_sums
from fastgd.kernels.vectors import VECTOR_BYTES, Vectors

REGISTERS = 8  # of sums: they hide that each waits for its last product
COLUMNS_BYTES = REGISTERS * VECTOR_BYTES
ROWS = 64  # whose sums are kept from one word of terms to the next
# Rows that a B whose rows lie far apart must be packed for, or it would be read for each of them.
ENOUGH_ROWS = 16
MOST_ROWS, MOST_COLUMNS = 1024, 128  # of A, and of a transposed A, whose masks are found at a time
FEWEST_TERMS = 32
# What a row costs besides its terms, what all its terms, and what to turn it back, in those of
# tiles: so a quarter of the numbers must be 0 to be worth it, or a third.  (Measured on Zen 4.)
COST_OF_ROW, COST_OF_TERM, COST_OF_TURNING = 0.15, 1.15, 0.1

I64 = ir.IntType(64)


@intrinsic
def _sum_row(typingctx, mask, a, a_step, b, b_row, b_panel, sums, beta, d, c):
    """A row of C, REGISTERS long: sums over the terms of a mask, added to ``sums``, + beta · D.

    Without ``sums``, an address, they begin at 0.  Two registers of a row of B lie side by side,
    the next two ``b_panel`` numbers farther on.
    """
    lanes = VECTOR_BYTES * 8 // beta.bitwidth
    i = types.intp
    signature = types.void(types.int64, i, i, i, i, i, i, beta, i, i)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> None:
        mask, a, a_step, b, b_row, b_panel, sums, beta, d, c = args
        element = context.get_value_type(sig.args[7])
        vector, nothing = whole_registers(builder, element, lanes, REGISTERS), ir.Constant(I64, 0)
        a, b, sums, d, c = (
            builder.inttoptr(address, element.as_pointer()) for address in (a, b, sums, d, c)
        )
        start = _sums_so_far(builder, vector, sums)
        total = _sum_terms(builder, vector, start, mask, a, a_step, b, b_row, b_panel)
        store_sums(builder, vector, element, [total], beta, d, nothing, c, nothing)

    return signature, codegen


def _sums_so_far(builder: Any, vector: Vectors, sums: Any) -> list[Any]:
    before = builder.block
    with builder.if_then(builder.icmp_unsigned("!=", sums, ir.Constant(sums.type, None))):
        loaded = [vector.load(sums, v) for v in range(vector.count)]
        then = builder.block
    return [_joined(builder, (vector.zero, before), (value, then)) for value in loaded]


def _joined(builder: Any, *ways: tuple[Any, Any]) -> Any:
    """A value that depends on the block that we come from."""
    phi = builder.phi(ways[0][0].type)
    for value, block in ways:
        phi.add_incoming(value, block)
    return phi


def _sum_terms(
    builder: Any, vector: Vectors, start: list[Any], mask: Any, a: Any, a_step: Any, b: Any,
    b_row: Any, b_panel: Any,
) -> list[Any]:  # fmt: skip
    """Add the terms of a mask, from the lowest bit on."""
    fused = ("contract",)
    no_bit, one = ir.Constant(I64, 0), ir.Constant(I64, 1)
    before = builder.block
    loop, done = builder.append_basic_block("term"), builder.append_basic_block("summed")
    builder.cbranch(builder.icmp_unsigned("!=", mask, no_bit), loop, done)
    builder.position_at_end(loop)
    bits = _joined(builder, (mask, before))
    sums = [_joined(builder, (value, before)) for value in start]
    p = _lowest_bit(builder, bits)
    of_a = vector.broadcast(builder.load(builder.gep(a, [builder.mul(p, a_step)])))
    # One address from which all registers are found; else each has one of its own.
    row = hidden(builder, builder.gep(b, [builder.mul(p, b_row)]))
    grown = []
    for v, value in enumerate(sums):
        panel = builder.gep(row, [builder.mul(ir.Constant(I64, v // 2), b_panel)])
        product = builder.fmul(of_a, vector.load(panel, v % 2), flags=fused)
        grown.append(builder.fadd(value, product, flags=fused))
    others = builder.and_(bits, builder.sub(bits, one))
    for phi, value in zip([bits, *sums], [others, *grown], strict=True):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_unsigned("!=", others, no_bit), loop, done)
    builder.position_at_end(done)
    both = zip(start, grown, strict=True)
    return [_joined(builder, (first, before), (last, loop)) for first, last in both]


def _lowest_bit(builder: Any, bits: Any) -> Any:
    """Place of the lowest bit of a word that has one."""
    flag = ir.IntType(1)
    declared = ir.FunctionType(I64, [I64, flag])
    function = cgutils.get_or_insert_function(builder.module, declared, "llvm.cttz.i64")
    return builder.call(function, [bits, ir.Constant(flag, 1)])


@intrinsic
def _write_row(typingctx, source, n, beta, d, c):
    """``n`` numbers of a row of C, at most two registers: those at ``source``, + beta · D."""
    lanes = VECTOR_BYTES * 8 // beta.bitwidth
    i = types.intp

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> None:
        source, n, beta, d, c = args
        element = context.get_value_type(sig.args[2])
        source, d, c = (builder.inttoptr(x, element.as_pointer()) for x in (source, d, c))
        nothing = ir.Constant(I64, 0)
        for vector in two_registers(builder, element, lanes, n):
            row = [vector.load(source, v) for v in range(2)]
            store_sums(builder, vector, element, [row], beta, d, nothing, c, nothing)

    return types.void(i, i, beta, i, i), codegen


@njit
def _turn_back(plan, n_rows, beta, d, d_row, c, c_row):
    """Rows of the transpose of C, which are in ``plan.sums``, as columns of C, + beta · D."""
    size = size_of(beta)
    two, columns = PANEL_ROW_BYTES // size, COLUMNS_BYTES // size
    turned = plan.sums + ROWS * COLUMNS_BYTES
    for j in range(0, n_rows, two):
        width = smaller(two, n_rows - j)
        rows = plan.sums + j * COLUMNS_BYTES
        call_pack(plan.pack, rows, columns, columns, width, turned, beta)
        for i in range(columns):
            _write_row(
                turned + i * PANEL_ROW_BYTES, width, beta,
                d + (i * d_row + j) * size, c + (i * c_row + j) * size,
            )  # fmt: skip


@njit
def _groups(
    plan, is_turned, m, n, k, a, a_row, a_col, a_more, b, b_row, b_col, beta, d, d_row, c, c_row
):
    """``C = A B + beta D`` for ``n`` columns, or C is the transpose of that.

    A has zeros; m is at most MOST_ROWS, or MOST_COLUMNS if A is transposed, but not C.  ``a_more``
    is that of ``find_masks``.
    """
    size = size_of(beta)
    two, columns = PANEL_ROW_BYTES // size, COLUMNS_BYTES // size
    zero = array_at(c, 1, beta).dtype.type(0.0)
    if a_row == 1 and not is_turned and is_far(a_col * size):
        # The numbers of a row lie in as many pages, and in a few lines of the cache.
        for p in range(k):
            copied = array_at(plan.packed + p * m * size, m, beta)
            copy_to(copied, array_at(a + p * a_col * size, m, beta))
        a, a_col = plan.packed, m
    find_masks(m, k, a, a_row, a_col, a_more, plan.masks, plan.sums, beta)
    for left in range(0, n, columns):
        # The last group may overlap the one before.
        j = smaller(left, n - columns)
        group, row, panel = b + j * b_col * size, b_row, two
        if b_col == IN_PANELS:
            group, row, panel = b + j * b_row * size, two, b_row * two
        elif b_col != 1:
            for q in range(0, columns, two):
                source, target = group + q * b_col * size, plan.panel + q * k * size
                call_pack(plan.pack, source, b_col, k, two, target, beta)
            group, row, panel = plan.panel, two, k * two
        elif is_far(b_row * size):
            pack_panels(group, b_row, k, columns, plan.panel, k, beta)
            group, row, panel = plan.panel, two, k * two
        for top in range(0, m, ROWS):
            bottom = smaller(top + ROWS, m)
            for word in range(0, k, WORD):
                is_kept = is_turned or word + WORD < k
                for i in range(top, bottom):
                    sums = plan.sums + (i - top) * COLUMNS_BYTES
                    _sum_row(
                        int64_at(plan.masks, word // WORD * m + i),
                        a + (i * a_row + i // two * a_more + word * a_col) * size, a_col,
                        group + word * row * size, row, panel, sums if word > 0 else 0,
                        zero if is_kept else beta, d + (i * d_row + j) * size,
                        sums if is_kept else c + (i * c_row + j) * size,
                    )  # fmt: skip
            if is_turned:
                place = (j * d_row + top) * size, (j * c_row + top) * size
                _turn_back(plan, bottom - top, beta, d + place[0], d_row, c + place[1], c_row)


@njit
def _cost(m, k, a, a_row, a_col, like):
    """What the sums for an A (m, k) cost without its zeros, in those of tiles."""
    return COST_OF_ROW + COST_OF_TERM * (1.0 - share_of_zeros(m, k, a, a_row, a_col, like))


@njit
def _covered(n, columns, cost, can_overlap):
    """How many of ``n`` columns are computed in groups, of which the last two may overlap."""
    rest = n % columns
    return n if can_overlap and rest > cost * columns else n - rest


def _without_zeros(plan, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, d, d_row, c, c_row):
    """See ``call_without_zeros``."""
    size = size_of(beta)
    two, columns = PANEL_ROW_BYTES // size, COLUMNS_BYTES // size
    if (k < WORD and a_row != 1) or k < FEWEST_TERMS:
        return 0
    # What is computed twice must not be added twice.
    is_new = beta == 0.0 or c != d
    cost, is_turned, more = 1.0, False, 0
    is_enough = m >= (ENOUGH_ROWS if b_col == 1 and is_far(b_row * size) else BYTE)
    if n >= columns and is_enough:
        cost = _cost(m, k, a, a_row, a_col, beta)
        done = _covered(n, columns, cost, is_new and b_col != IN_PANELS)
    if cost >= 1.0:
        # Columns of B in place of rows of A.
        looks, step = n, b_row
        if b_col == IN_PANELS:
            looks, step, more = two, two, (b_row - 1) * two
        if m < columns or a_row != 1 or n < larger(two, ENOUGH_ROWS) or b_col > 1:
            return 0
        cost = COST_OF_TURNING + _cost(looks, k, b, 1, step, beta)
        if cost >= 1.0:
            return 0
        done, is_turned = _covered(m, columns, cost, is_new), True
        m, n, a, a_col, b, b_row, b_col = n, done, b, step, a, a_col, 1
    d_step, c_step = (1, 1) if is_turned else (d_row, c_row)
    i = 0
    while i < m:
        rows = smaller(MOST_COLUMNS if a_row == 1 and not is_turned else MOST_ROWS, m - i)
        if more == 0 and 0 < m - i - rows < BYTE:
            rows -= BYTE
        _groups(
            plan, is_turned, rows, done, k,
            a + (i * a_row + i // two * more) * size, a_row, a_col, more, b, b_row, b_col,
            beta, d + i * d_step * size, d_row, c + i * c_step * size, c_row,
        )  # fmt: skip
        i += rows
    return -done if is_turned else done


def _signature(plan: Any) -> Any:
    return types.intp(*product_signature(plan).args)


@intrinsic
def call_without_zeros(
    typingctx, address, plan, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, d, d_row,
    c, c_row,
):  # fmt: skip
    """``C = A B + beta D`` for the first columns, if A has many zeros, or rows, if B has them.

    Returns how many columns, or less than 0: minus how many rows.  The arguments are those of
    ``gemm``; k is at most ``longest``, and a transposed A has at most the rows that ``plan.packed``
    has room for.
    """
    return call_at(_signature(plan))


def zeros_entries(dtype: np.dtype[Any], longest: int) -> dict[str, Any]:
    """What a plan needs of this; compiles the code, or loads it, on its first use.

    ``longest`` is the largest k of a product.
    """
    turned = COLUMNS_BYTES // dtype.itemsize * PANEL_ROW_BYTES
    return {
        "without_zeros": without_zeros_code(dtype),
        "masks": aligned_empty(-(-longest // WORD) * MOST_ROWS, np.int64),
        "sums": aligned_empty(ROWS * COLUMNS_BYTES + turned, np.uint8),
    }


@functools.cache
def without_zeros_code(dtype: np.dtype[Any]) -> int:
    """Address of the code."""
    signature = _signature(numba.from_dtype(plan_dtype(dtype)))
    name = f"{__name__}.without_zeros"
    return native_address(_without_zeros, signature, name, ours=True)
