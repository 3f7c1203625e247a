"""Which numbers of a matrix are not 0: a bit for each, in words of 64 of them.

The masks of a row of A, or of a column of its transpose, say which terms its sums have.  They lie
word after word, and for each word all rows one after another.  A NaN is not 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic

from fastgd._jit import njit
from fastgd.kernels.packing import PANEL_ROW_BYTES
from fastgd.kernels.plan import array_at, size_of, smaller

WORD = 64  # bits
WORD_BYTES = 8
BYTE = 8  # rows whose masks are found together, where the numbers of a row lie apart: a bit each
LOOKS = 4  # words that tell whether there are many zeros


@intrinsic
def _mask_of_word(typingctx, address, n_before, like):
    """Mask of 64 numbers side by side, without the first ``n_before``."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.lshr(_mask(context, builder, like, args[0], WORD), args[1])

    return types.int64(types.intp, types.intp, like), codegen


@intrinsic
def _mask_of_byte(typingctx, address, like):
    """Mask of BYTE numbers side by side."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _mask(context, builder, like, args[0], BYTE)

    return types.uint8(types.intp, like), codegen


def _mask(context: Any, builder: Any, like: Any, address: Any, n: int) -> Any:
    kind = ir.VectorType(context.get_value_type(like), n)
    place = builder.inttoptr(address, kind.as_pointer())
    numbers = builder.load(place, align=like.bitwidth // 8)
    differ = builder.fcmp_unordered("!=", numbers, ir.Constant(kind, [0.0] * n))
    return builder.bitcast(differ, ir.IntType(n))


@intrinsic
def _turn(typingctx, few, masks):
    """From 64 masks of BYTE numbers make BYTE masks of 64; both are addresses."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind, word = ir.VectorType(ir.IntType(BYTE), WORD), ir.IntType(WORD)
        values = builder.load(builder.inttoptr(args[0], kind.as_pointer()), align=1)
        masks = builder.inttoptr(args[1], word.as_pointer())
        zero = ir.Constant(kind, [0] * WORD)
        # The highest bit of each, which is its sign; then the next one takes its place.
        for row in reversed(range(BYTE)):
            mask = builder.bitcast(builder.icmp_signed("<", values, zero), word)
            builder.store(mask, builder.gep(masks, [ir.Constant(word, row)]))
            values = builder.add(values, values)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


@njit
def find_masks(m, k, a, a_row, a_col, a_more, masks, room, like):
    """Write the masks of A (m, k) to the address ``masks``; of panels a multiple of BYTE rows.

    ``a_row`` or ``a_col`` is 1; then m is at least BYTE, or k at least WORD.  Rows of panels lie
    ``a_more`` numbers farther on for each panel before theirs.  There is ``room`` for a word of
    bytes.
    """
    size, few = size_of(like), array_at(room, WORD, np.uint8(0))
    # Behind the last row in panels there is room.
    last = m if a_more != 0 else m - BYTE
    for word in range(0, k, WORD):
        target = masks + word // WORD * m * WORD_BYTES
        if a_col == 1:
            start = smaller(word, k - WORD)
            found = array_at(target, m, np.int64(0))
            for i in range(m):
                found[i] = _mask_of_word(a + (i * a_row + start) * size, word - start, like)
        else:
            n_terms = smaller(WORD, k - word)
            few[n_terms:] = 0
            for i in range(0, m, BYTE):
                row = smaller(i, last)
                place = a + (row + row * size // PANEL_ROW_BYTES * a_more + word * a_col) * size
                for p in range(n_terms):
                    few[p] = _mask_of_byte(place + p * a_col * size, like)
                _turn(room, target + row * WORD_BYTES)


@njit(reduction=True)
def _n_zeros(x):
    zero, one = x.dtype.type(0.0), x.dtype.type(1.0)
    total = zero
    for i in range(x.size):
        total += one if x[i] == zero else zero
    return total


@njit
def share_of_zeros(m, k, a, a_row, a_col, like):
    """Share of the numbers of A (m, k) that are 0, as far as a few words of some rows tell.

    Of a transposed A these are columns.
    """
    n, length, step = m, k, a_row
    if a_col != 1:
        n, length, step = k, m, a_col
    seen = smaller(length, WORD)
    total = 0
    for look in range(LOOKS):
        # Another part of each row: images are darker at their edges.
        first = look * (length - seen) // (LOOKS - 1)
        start = look * n // LOOKS * step + first
        total += _n_zeros(array_at(a + start * size_of(like), seen, like))
    return np.float64(total) / (LOOKS * seen)
