"""Matrix products that leave out the zeros of A.

Half of what ReLU units put out is 0, and so is half of the derivatives that pass back through them;
of images and counts often more.  A row of C is the sum of as many rows of B as the row of A has
numbers that are not 0.  Masks say which these are, 64 of them in a word.  So many columns of C that
the sums fill eight registers are computed together, over 64 terms at a time: those rows of B stay
in the first-level cache.

Each row of B is loaded for each term, where a tile (``fastgd.kernels.tiles``) loads it once for
several rows of C; so zeros must be some of all numbers to be worth it.  The terms that are left are
added in the same order, to the same sums bit by bit.

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
from fastgd.kernels.packing import IN_PANELS, call_pack, is_far, pack_panels
from fastgd.kernels.parts import call_at
from fastgd.kernels.plan import array_at, int64_at, int64s, plan_dtype, size_of, smaller
from fastgd.kernels.tiles import hidden, store_sums
from fastgd.kernels.vectors import VECTOR_BYTES, Vectors

REGISTERS = 8  # of sums: as many as wait for one another's results
COLUMNS_BYTES = REGISTERS * VECTOR_BYTES
WORD = 64  # numbers in a mask
BITS = 8  # of a mask that are found together, where the numbers lie apart
ROWS = 64  # whose sums are kept from one word of terms to the next
# Rows of A that are looked at, and the share of zeros in them from which all are left out.
LOOKS, ENOUGH = 4, 0.3
# Rows of C from which B is packed, and whose masks are found at a time.
OFTEN, MOST_ROWS = 24, 1024

I32, I64 = ir.IntType(32), ir.IntType(64)


@intrinsic
def _sum_row(typingctx, mask, a, a_step, b, b_row, b_panel, sums, beta, d, c):
    """A row of C, of REGISTERS registers: sums over the terms of a mask, added to those before.

    These lie at the address ``sums``, or are 0 if that is 0.  A panel of B is two registers wide.
    """
    lanes = VECTOR_BYTES * 8 // beta.bitwidth
    i = types.intp
    signature = types.void(types.int64, i, i, i, i, i, i, beta, i, i)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> None:
        mask, a, a_step, b, b_row, b_panel, sums, beta, d, c = args
        element = context.get_value_type(sig.args[7])
        columns = ir.Constant(I64, REGISTERS * lanes)
        vector = Vectors(builder, element, lanes, REGISTERS, columns, masked=False)
        a, b, sums, d, c = (
            builder.inttoptr(address, element.as_pointer()) for address in (a, b, sums, d, c)
        )
        totals = _start(builder, vector, sums)
        totals = _sum_terms(builder, vector, totals, mask, a, a_step, b, b_row, b_panel)
        store_sums(builder, vector, element, [totals], beta, d, ir.Constant(I64, 0), c, columns)

    return signature, codegen


def _start(builder: Any, vector: Vectors, sums: Any) -> list[Any]:
    """The sums so far."""
    before = builder.block
    there = builder.icmp_unsigned("!=", sums, ir.Constant(sums.type, None))
    with builder.if_then(there):
        loaded = [vector.load(sums, v) for v in range(vector.count)]
        then = builder.block
    started = []
    for value in loaded:
        phi = builder.phi(vector.type)
        phi.add_incoming(vector.zero, before)
        phi.add_incoming(value, then)
        started.append(phi)
    return started


def _sum_terms(
    builder: Any, vector: Vectors, totals: list[Any], mask: Any, a: Any, a_step: Any, b: Any,
    b_row: Any, b_panel: Any,
) -> list[Any]:  # fmt: skip
    """Add the terms of a mask to sums."""
    fused = ("contract",)
    before = builder.block
    loop, done = builder.append_basic_block("term"), builder.append_basic_block("summed")
    none = ir.Constant(I64, 0)
    builder.cbranch(builder.icmp_unsigned("!=", mask, none), loop, done)
    builder.position_at_end(loop)
    left = builder.phi(I64)
    left.add_incoming(mask, before)
    phis = [builder.phi(vector.type) for _ in totals]
    declared = ir.FunctionType(I64, [I64, ir.IntType(1)])
    lowest = cgutils.get_or_insert_function(builder.module, declared, "llvm.cttz.i64")
    p = builder.call(lowest, [left, ir.Constant(ir.IntType(1), 1)])
    following = builder.and_(left, builder.sub(left, ir.Constant(I64, 1)))
    of_a = vector.broadcast(builder.load(builder.gep(a, [builder.mul(p, a_step)])))
    # One address, from which the registers are found; else each has one of its own.
    row = hidden(builder, builder.gep(b, [builder.mul(p, b_row)]))
    grown = []
    for v, phi in enumerate(phis):
        panel = builder.gep(row, [builder.mul(ir.Constant(I64, v // 2), b_panel)])
        term = builder.fmul(of_a, vector.load(panel, v % 2), flags=fused)
        grown.append(builder.fadd(phi, term, flags=fused))
    left.add_incoming(following, loop)
    for phi, start, value in zip(phis, totals, grown, strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_unsigned("!=", following, none), loop, done)
    builder.position_at_end(done)
    results = []
    for start, value in zip(totals, grown, strict=True):
        result = builder.phi(vector.type)
        result.add_incoming(start, before)
        result.add_incoming(value, loop)
        results.append(result)
    return results


@intrinsic
def _mask_of_row(typingctx, address, n_before, like):
    """Which of 64 numbers in a row are not 0, without the first ``n_before``; a NaN is not."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        mask = _not_zero(context, builder, like, args[0], WORD)
        return builder.lshr(mask, args[1])

    return types.int64(types.intp, types.intp, like), codegen


@intrinsic
def _mask_of_few(typingctx, address, like):
    """The same of 8 numbers."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _not_zero(context, builder, like, args[0], BITS)

    return types.uint8(types.intp, like), codegen


def _not_zero(context: Any, builder: Any, like: Any, address: Any, n: int) -> Any:
    kind = ir.VectorType(context.get_value_type(like), n)
    place = builder.inttoptr(address, kind.as_pointer())
    values = builder.load(place, align=like.bitwidth // 8)
    differ = builder.fcmp_unordered("!=", values, ir.Constant(kind, [0.0] * n))
    return builder.bitcast(differ, ir.IntType(n))


@intrinsic
def _turn_masks(typingctx, few, masks):
    """Of 64 masks of 8 numbers each, the 8 masks of 64 numbers; both at addresses."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.VectorType(ir.IntType(8), WORD)
        values = builder.load(builder.inttoptr(args[0], kind.as_pointer()), align=1)
        target = builder.inttoptr(args[1], I64.as_pointer())
        zero = ir.Constant(kind, [0] * WORD)
        for bit in reversed(range(BITS)):
            word = builder.bitcast(builder.icmp_signed("<", values, zero), I64)
            builder.store(word, builder.gep(target, [ir.Constant(I64, bit)]))
            values = builder.add(values, values)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


@njit(reduction=True)
def _count_zeros(x):
    total = 0
    for i in range(x.size):
        total += x[i] == 0
    return total


@njit
def _has_zeros(m, k, a, a_row, a_col, like):
    """Whether it is worth it to leave out the zeros of A, as far as a few of its rows tell.

    Of a transposed A these are columns.
    """
    n, length, step = m, k, a_row
    if a_col != 1:
        n, length, step = k, m, a_col
    total = 0
    for look in range(LOOKS):
        start = look * n // LOOKS * step * size_of(like)
        total += _count_zeros(array_at(a + start, length, like))
    return total >= ENOUGH * LOOKS * length


@njit
def _find(plan, m, k, a, a_row, a_col, masks, few, like):
    """Write the masks of A, word after word for all rows; ``few`` is room for a word of bytes."""
    size, bytes_ = size_of(like), array_at(few, WORD, np.uint8(0))
    for word in range(0, k, WORD):
        target = masks + word // WORD * m * 8
        if a_col == 1:
            start = smaller(word, k - WORD)
            for i in range(m):
                mask = _mask_of_row(a + (i * a_row + start) * size, word - start, like)
                int64s(plan, target, i, i + 1)[0] = mask
        else:
            n_terms = smaller(WORD, k - word)
            for p in range(n_terms, WORD):
                bytes_[p] = 0
            for i in range(0, m, BITS):
                row = smaller(i, m - BITS)
                for p in range(n_terms):
                    place = a + ((word + p) * a_col + row) * size
                    bytes_[p] = _mask_of_few(place, like)
                _turn_masks(few, target + row * 8)


def _columns_without_zeros(plan, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, d, d_row, c, c_row):
    """``C = A B + beta D`` for as many columns as fill whole groups, if A has many zeros.

    Returns how many columns were computed.
    """
    size = size_of(beta)
    two, columns = 2 * VECTOR_BYTES // size, COLUMNS_BYTES // size
    if n < columns or k < WORD or m < BITS or not _has_zeros(m, k, a, a_row, a_col, beta):
        return 0
    zero = array_at(c, 1, beta).dtype.type(0.0)
    done = n // columns * columns
    for top in range(0, m, MOST_ROWS):
        n_rows = smaller(MOST_ROWS, m - top)
        rows = a + top * a_row * size
        masks = plan.packed
        sums = masks + (k + WORD - 1) // WORD * MOST_ROWS * 8
        _find(plan, n_rows, k, rows, a_row, a_col, masks, sums, beta)
        for j in range(0, done, columns):
            group, row, panel = b + j * b_col * size, b_row, two
            if b_col == IN_PANELS:
                group, row, panel = b + j * b_row * size, two, b_row * two
            elif b_col != 1:
                for q in range(0, columns, two):
                    call_pack(
                        plan.pack, group + q * b_col * size, b_col, k, two,
                        plan.panel + q * k * size, beta,
                    )  # fmt: skip
                group, row, panel = plan.panel, two, k * two
            elif n_rows >= OFTEN and is_far(b_row * size):
                pack_panels(group, b_row, k, columns, plan.panel, k, beta)
                group, row, panel = plan.panel, two, k * two
            for first in range(0, n_rows, ROWS):
                for word in range(0, k, WORD):
                    is_last = word + WORD >= k
                    for i in range(first, smaller(first + ROWS, n_rows)):
                        so_far = sums + (i - first) * COLUMNS_BYTES
                        _sum_row(
                            int64_at(masks, word // WORD * n_rows + i),
                            rows + (i * a_row + word * a_col) * size, a_col,
                            group + word * row * size, row, panel,
                            so_far if word > 0 else 0,
                            beta if is_last else zero, d + ((top + i) * d_row + j) * size,
                            c + ((top + i) * c_row + j) * size if is_last else so_far,
                        )  # fmt: skip
    return done


def _signature(plan: Any) -> Any:
    i, real = types.intp, plan.typeof("real")
    return types.intp(plan, i, i, i, i, i, i, i, i, i, real, i, i, i, i)


@intrinsic
def call_columns_without_zeros(
    typingctx, address, plan, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, d, d_row,
    c, c_row,
):  # fmt: skip
    """``C = A B + beta D`` for the first columns, if A has many zeros; returns how many."""
    return call_at(_signature(plan))


@functools.cache
def zeros_entry(dtype: np.dtype[Any]) -> dict[str, int]:
    """What a plan needs of this; compiles the code, or loads it, on its first use."""
    signature = _signature(numba.from_dtype(plan_dtype(dtype)))
    name = f"{__name__}.columns_without_zeros"
    return {
        "columns_without_zeros": native_address(_columns_without_zeros, signature, name, ours=True)
    }
