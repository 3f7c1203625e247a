"""Matrix products that leave out the zeros of a factor.

Half of what ReLU units put out is 0, and so is half of the derivatives that pass back through
them; of images and counts often more.  A row of C is the sum of as many rows of B as the row of A
has numbers that are not 0, which masks tell (``fastgd.kernels.masks``).  So many columns of C are
computed together that their sums fill eight registers, over 64 terms at a time: so many rows of B
stay in the first-level cache.  Where it is B that has zeros, the transpose of C is computed so.

For each term of each row of C a row of B is loaded, where a tile (``fastgd.kernels.tiles``) loads
it once for several; so a third of the numbers must be 0 to be worth it.  The terms that are left
are added in the same order, which gives the same sums, bit by bit.

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
from fastgd.kernels.masks import FEW, WORD, WORD_BYTES, find_masks, has_zeros
from fastgd.kernels.packing import IN_PANELS, call_pack, is_far, pack_panels
from fastgd.kernels.parts import call_at
from fastgd.kernels.plan import array_at, copy_to, int64_at, plan_dtype, size_of, smaller
from fastgd.kernels.tiles import hidden, store_sums
from fastgd.kernels.vectors import VECTOR_BYTES, Vectors

REGISTERS = 8  # of sums: they hide that each waits for its last product
COLUMNS_BYTES = REGISTERS * VECTOR_BYTES
ROWS = 64  # whose sums are kept from one word of terms to the next
# Rows of C from which B is packed, and whose masks are found at a time.
OFTEN, MOST_ROWS = 24, 1024
# Shares of zeros: more if C has to be transposed.
ENOUGH_OF_A, ENOUGH_OF_B = 0.3, 0.4

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
        n, nothing = ir.Constant(I64, REGISTERS * lanes), ir.Constant(I64, 0)
        vector = Vectors(builder, element, lanes, REGISTERS, n, masked=False)
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
        nothing, two = ir.Constant(I64, 0), ir.Constant(I64, 2 * lanes)

        def write(vector: Vectors) -> None:
            row = [vector.load(source, v) for v in range(2)]
            store_sums(builder, vector, element, [row], beta, d, nothing, c, nothing)

        with builder.if_else(builder.icmp_signed("==", n, two)) as (then, otherwise):
            with then:
                write(Vectors(builder, element, lanes, 2, two, masked=False))
            with otherwise:
                write(Vectors(builder, element, lanes, 2, n))

    return types.void(i, i, beta, i, i), codegen


@njit
def _sum_rows(
    masks, n_rows, a, a_row, a_col, b, b_row, b_panel, is_first, sums, beta, d, d_row, c, c_row
):
    """Rows of C, REGISTERS long, over one word of terms; see ``_sum_row``."""
    size = size_of(beta)
    for i in range(n_rows):
        _sum_row(
            int64_at(masks, i), a + i * a_row * size, a_col, b, b_row, b_panel,
            0 if is_first else sums + i * COLUMNS_BYTES, beta, d + i * d_row * size,
            c + i * c_row * size,
        )  # fmt: skip


@njit
def _columns(plan, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, d, d_row, c, c_row):
    """``n`` columns of C, whole groups, of an A with zeros; m is at most MOST_ROWS."""
    size = size_of(beta)
    two, columns = 2 * VECTOR_BYTES // size, COLUMNS_BYTES // size
    masks, sums, zero = plan.masks, plan.sums, array_at(c, 1, beta).dtype.type(0.0)
    if a_col != 1 and is_far(a_col * size):
        # The numbers of a row lie in as many pages, and in a few lines of the cache.
        for p in range(k):
            copied = array_at(plan.packed + p * m * size, m, beta)
            copy_to(copied, array_at(a + p * a_col * size, m, beta))
        a, a_col = plan.packed, m
    find_masks(m, k, a, a_row, a_col, masks, m, sums, beta)
    for j in range(0, n, columns):
        group, row, panel = b + j * b_col * size, b_row, two
        if b_col == IN_PANELS:
            group, row, panel = b + j * b_row * size, two, b_row * two
        elif b_col != 1:
            for q in range(0, columns, two):
                call_pack(
                    plan.pack, group + q * b_col * size, b_col, k, two, plan.panel + q * k * size,
                    beta,
                )  # fmt: skip
            group, row, panel = plan.panel, two, k * two
        elif m >= OFTEN and is_far(b_row * size):
            pack_panels(group, b_row, k, columns, plan.panel, k, beta)
            group, row, panel = plan.panel, two, k * two
        for i in range(0, m, ROWS):
            for word in range(0, k, WORD):
                is_last = word + WORD >= k
                _sum_rows(
                    masks + (word // WORD * m + i) * WORD_BYTES, smaller(ROWS, m - i),
                    a + (i * a_row + word * a_col) * size, a_row, a_col,
                    group + word * row * size, row, panel, word == 0, sums,
                    beta if is_last else zero, d + (i * d_row + j) * size, d_row,
                    c + (i * c_row + j) * size if is_last else sums, c_row if is_last else columns,
                )  # fmt: skip


@njit
def _rows(plan, m, n, k, a, a_col, b, b_row, b_col, beta, d, d_row, c, c_row):
    """``m`` rows of C, whole groups, of a transposed A and a B with zeros; n is at most MOST_ROWS.

    Of the transpose of C they are columns.
    """
    size = size_of(beta)
    two, columns = 2 * VECTOR_BYTES // size, COLUMNS_BYTES // size
    masks, sums, zero = plan.masks, plan.sums, array_at(c, 1, beta).dtype.type(0.0)
    row, panel, next_group = a_col, two, columns
    if is_far(a_col * size):
        pack_panels(a, a_col, k, m, plan.packed, k, beta)
        a, row, panel, next_group = plan.packed, two, k * two, k * columns
    step, next_strip = (two, b_row * two) if b_col == IN_PANELS else (b_row, two)
    for j in range(0, n, two):
        # Behind the last one of several panels there is room for a whole one.
        first = j if b_col == IN_PANELS else smaller(j, n - two)
        find_masks(
            two, k, b + (first // two * next_strip + first % two) * size, 1, step,
            masks + first * WORD_BYTES, n, sums, beta,
        )  # fmt: skip
    for left in range(0, n, ROWS):
        right = smaller(left + ROWS, n)
        for i in range(0, m, columns):
            for word in range(0, k, WORD):
                for j in range(left, right, two):
                    so_far = sums + (j - left) * COLUMNS_BYTES
                    _sum_rows(
                        masks + (word // WORD * n + j) * WORD_BYTES, smaller(two, right - j),
                        b + (j // two * next_strip + word * step) * size, 1, step,
                        a + (i // columns * next_group + word * row) * size, row, panel,
                        word == 0, so_far, zero, so_far, 0, so_far, columns,
                    )  # fmt: skip
            for j in range(left, right, two):
                width = smaller(two, right - j)
                turned = sums + (j - left) * COLUMNS_BYTES
                call_pack(plan.pack, turned, columns, columns, width, plan.panel, beta)
                for p in range(columns):
                    _write_row(
                        plan.panel + p * two * size, width, beta, d + ((i + p) * d_row + j) * size,
                        c + ((i + p) * c_row + j) * size,
                    )  # fmt: skip


def _without_zeros(plan, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, d, d_row, c, c_row):
    size = size_of(beta)
    two, columns = 2 * VECTOR_BYTES // size, COLUMNS_BYTES // size
    if k < WORD:
        return 0
    if n >= columns and m >= FEW and has_zeros(ENOUGH_OF_A, m, k, a, a_row, a_col, beta):
        done = n // columns * columns
        for i in range(0, m, MOST_ROWS):
            _columns(
                plan, smaller(MOST_ROWS, m - i), done, k, a + i * a_row * size, a_row, a_col,
                b, b_row, b_col, beta, d + i * d_row * size, d_row, c + i * c_row * size, c_row,
            )  # fmt: skip
        return done
    looks, step = (two, two) if b_col == IN_PANELS else (n, b_row)
    if m < columns or a_row != 1 or n < two or b_col > 1:
        return 0
    if not has_zeros(ENOUGH_OF_B, looks, k, b, 1, step, beta):
        return 0
    done = m // columns * columns
    for j in range(0, n, MOST_ROWS):
        strip = b + j * (b_row if b_col == IN_PANELS else 1) * size
        _rows(
            plan, done, smaller(MOST_ROWS, n - j), k, a, a_col, strip, b_row, b_col,
            beta, d + j * size, d_row, c + j * size, c_row,
        )  # fmt: skip
    return -done


def _signature(plan: Any) -> Any:
    i, real = types.intp, plan.typeof("real")
    return types.intp(plan, i, i, i, i, i, i, i, i, i, real, i, i, i, i)


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
    return {
        "without_zeros": _code(dtype),
        "masks": aligned_empty(-(-longest // WORD) * MOST_ROWS, np.int64),
        "sums": aligned_empty(ROWS * COLUMNS_BYTES, np.uint8),
    }


@functools.cache
def _code(dtype: np.dtype[Any]) -> int:
    signature = _signature(numba.from_dtype(plan_dtype(dtype)))
    name = f"{__name__}.without_zeros"
    return native_address(_without_zeros, signature, name, ours=True)
