"""Rows of few outputs: a softmax that keeps them in registers, written as vector instructions.

A loop over ten elements does not fill a vector, and what one instruction leaves in memory comes
back late to another of a different width.  So a row is loaded once, and stored when its
derivatives are done; nothing of it lies in memory in between.  Some rows side by side make one
long vector, which LLVM cuts into registers: while one waits for a result, the others go on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic

from fastgd.kernels.elementary import DOUBLE, SINGLE
from fastgd.kernels.plan import make_array
from fastgd.kernels.vectors import VECTOR_BYTES, masked_load, shuffle, store_first

I1, I32, I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
FUSED = ("contract",)
REGISTERS = 4  # of a long vector: enough to hide that each result takes some cycles


@intrinsic(prefer_literal=True)
def softmax_rows(typingctx, z, y, weight, start, i, stop, k, delta, rest, gap, lanes, most):
    """The cross-entropy of some rows from ``start + i`` on, each of ``k`` outputs.

    Writes their derivatives to ``delta``, and from place ``i`` on: to ``rest`` the sum of all
    ``exp(z - max)`` but that of one largest output, which is 1; to ``gap`` how far the output of
    the row's class lies below the largest.  A NaN or an infinite largest output makes ``rest``
    and the derivatives NaN.  Returns how many rows fit into the vector: a constant, so it may
    point, as what is written to ``rest`` and ``gap`` does, beyond the last row, ``stop - 1``.
    ``lanes``, a power of two from 4 on and a constant, is the room of a row, at least ``k``;
    ``most``, also a constant, says how many rows the vector may have.
    """
    if not isinstance(lanes, types.IntegerLiteral) or not isinstance(most, types.IntegerLiteral):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        z, y, weight, delta, rest, gap = (
            make_array(sig.args[p])(context, builder, args[p]).data for p in (0, 1, 2, 7, 8, 9)
        )
        start, i, stop, k = args[3:7]
        rows = _Rows(builder, z.type.pointee, lanes.literal_value, k, most.literal_value)
        numbers = rows.numbers(builder.add(start, i), stop)
        starts = [builder.mul(p, k) for p in numbers]
        classes = [builder.load(builder.gep(y, [p])) for p in numbers]
        own = [builder.add(p, number) for p, number in zip(starts, classes, strict=True)]
        z_own, weights = rows.gather(z, own), rows.gather(weight, numbers)

        x = rows.load(z, starts)
        top = rows.fold(x, lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))
        x = builder.fsub(x, rows.spread(top))
        e = rows.exp(x)
        # A sum without one of the largest, not the sum less 1, keeps the digits of a small loss.
        others = rows.fold(rows.zero_where(rows.first_zeros(x), e), builder.fadd)
        one = ir.Constant(others.type, [1.0] * rows.count)
        scale = builder.fdiv(weights, builder.fadd(one, others))
        taken = rows.zero_where(builder.not_(rows.places(classes)), rows.spread(weights))
        product = builder.fmul(e, rows.spread(scale), flags=FUSED)
        rows.store(builder.fsub(product, taken, flags=FUSED), delta, starts)
        rows.store_numbers(others, rest, i)
        rows.store_numbers(builder.fsub(top, z_own), gap, i)
        return ir.Constant(I64, rows.count)

    return types.intp(z, y, weight, start, i, stop, k, delta, rest, gap, lanes, most), codegen


class _Rows:
    """Rows of ``lanes`` places, ``k`` of them in use: ``count`` side by side in a vector."""

    def __init__(self, builder: Any, element: Any, lanes: int, k: Any, most: int) -> None:
        self._builder, self._lanes, self._k = builder, lanes, k
        self._info = np.finfo(np.float32 if element == ir.FloatType() else np.float64)
        self._bytes = self._info.bits // 8
        self.count = max(1, min(most, REGISTERS * VECTOR_BYTES // (self._bytes * lanes)))
        self._length = self.count * lanes
        self._type = ir.VectorType(element, self._length)
        self._row = ir.VectorType(element, lanes)
        # One bit for each place: masks of all rows are put together as integers.
        self._bits = ir.IntType(self._length)
        limit = self._shuffle(self._vector([builder.trunc(k, I32)]), [0] * lanes)
        self._used = builder.icmp_signed("<", ir.Constant(limit.type, list(range(lanes))), limit)

    def _constant(self, value: float) -> Any:
        return ir.Constant(self._type, [float(self._info.dtype.type(value))] * self._length)

    def _vector(self, values: list[Any]) -> Any:
        made = ir.Constant(ir.VectorType(values[0].type, len(values)), ir.Undefined)
        for place, value in enumerate(values):
            made = self._builder.insert_element(made, value, ir.Constant(I32, place))
        return made

    def _shuffle(self, value: Any, places: list[int], second: Any = None) -> Any:
        """The places of a vector, or of two in a row, in another order."""
        return shuffle(self._builder, value, places, second)

    def numbers(self, first: Any, stop: Any) -> list[Any]:
        """The rows from ``first`` on; in place of those beyond the last, the last once more."""
        builder = self._builder
        last = builder.sub(stop, ir.Constant(I64, 1))
        numbers = [builder.add(first, ir.Constant(I64, r)) for r in range(self.count)]
        return [builder.select(builder.icmp_signed("<", p, last), p, last) for p in numbers]

    def gather(self, array: Any, places: list[Any]) -> Any:
        """A number for each row."""
        builder = self._builder
        return self._vector([builder.load(builder.gep(array, [p])) for p in places])

    def spread(self, numbers: Any) -> Any:
        """The number of each row in all of its places."""
        return self._shuffle(numbers, [p // self._lanes for p in range(self._length)])

    def fold(self, value: Any, combine: Callable[[Any, Any], Any]) -> Any:
        """Combine the places of each row, one half with the other, down to a number for each."""
        width = self._lanes
        while width > 1:
            width //= 2
            low = [2 * width * r + p for r in range(self.count) for p in range(width)]
            high = [p + width for p in low]
            value = combine(self._shuffle(value, low), self._shuffle(value, high))
        return value

    def load(self, array: Any, starts: list[Any]) -> Any:
        """The rows that begin at ``starts``; -inf, which is no maximum, in the unused places."""
        fill = ir.Constant(self._row, [-np.inf] * self._lanes)
        parts = [masked_load(self._builder, self._at(array, p), self._used, fill) for p in starts]
        while len(parts) > 1:
            both = list(range(2 * parts[0].type.count))
            parts = [
                self._shuffle(a, both, b) for a, b in zip(parts[::2], parts[1::2], strict=True)
            ]
        return parts[0]

    def store(self, value: Any, array: Any, starts: list[Any]) -> None:
        """Write the used places of the rows."""
        for r, start in enumerate(starts):
            row = self._shuffle(value, list(range(r * self._lanes, (r + 1) * self._lanes)))
            store_first(self._builder, row, self._at(array, start), self._k, self._used)

    def store_numbers(self, numbers: Any, array: Any, i: Any) -> None:
        """Write a number of each row, from place ``i`` on."""
        builder = self._builder
        place = builder.bitcast(builder.gep(array, [i]), numbers.type.as_pointer())
        builder.store(numbers, place, align=self._bytes)

    def _at(self, array: Any, start: Any) -> Any:
        return self._builder.bitcast(self._builder.gep(array, [start]), self._row.as_pointer())

    def zero_where(self, mask: Any, value: Any) -> Any:
        mask = self._builder.bitcast(mask, ir.VectorType(I1, self._length))
        return self._builder.select(mask, self._constant(0.0), value)

    def first_zeros(self, x: Any) -> Any:
        """The bits of the first 0 of each row that has one."""
        builder = self._builder
        bits = builder.fcmp_ordered("==", x, self._constant(0.0))
        bits = builder.bitcast(bits, self._bits)
        # The lowest bit of b is b & ~(b - 1).  A row without any borrows from a guard of its own.
        guards, ones = self._in_each_row(1 << self._lanes - 1), self._in_each_row(1)
        less_one = builder.sub(builder.or_(bits, guards), ones)
        less_one = builder.xor(less_one, builder.and_(builder.not_(bits), guards))
        return builder.and_(bits, builder.not_(less_one))

    def _in_each_row(self, bits: int) -> Any:
        return ir.Constant(self._bits, sum(bits << r * self._lanes for r in range(self.count)))

    def places(self, places: list[Any]) -> Any:
        """The bits of one place of each row."""
        builder = self._builder
        bits = ir.Constant(I64, 0) if self._length > 32 else ir.Constant(I32, 0)
        for r, place in enumerate(places):
            place = place if bits.type == I64 else builder.trunc(place, I32)
            first = ir.Constant(bits.type, 1 << r * self._lanes)
            bits = builder.or_(bits, builder.shl(first, place))
        return bits if bits.type == self._bits else builder.trunc(bits, self._bits)

    def exp(self, x: Any) -> Any:
        """exp(x) for x <= 0, as in elementary.py, but 0 where that is below the normal numbers."""
        builder, constant, info = self._builder, self._constant, self._info
        coefficients = SINGLE if info.bits == 32 else DOUBLE

        def times_plus(a: Any, b: Any, c: Any) -> Any:
            return builder.fadd(builder.fmul(a, b, flags=FUSED), c, flags=FUSED)

        # Adding this rounds to an integer, which then stands, with the bias, in the lowest bits.
        rounder = constant(1.5 * 2.0**info.nmant + info.maxexp - 1)
        rounded = times_plus(x, constant(np.log2(np.e)), rounder)
        n = builder.fsub(rounded, rounder)
        r = times_plus(n, constant(-coefficients.ln2_high), x)
        r = times_plus(n, constant(-coefficients.ln2_low), r)
        *lower, value = (constant(term) for term in coefficients.exp)
        for term in reversed(lower):
            value = times_plus(value, r, term)
        y = builder.fadd(constant(1.0), times_plus(builder.fmul(r, r), value, r))
        whole = ir.VectorType(ir.IntType(info.bits), self._length)
        shift = ir.Constant(whole, [info.nmant] * self._length)
        power = builder.bitcast(builder.shl(builder.bitcast(rounded, whole), shift), self._type)
        # A NaN is not below, and stays.
        below = builder.fcmp_ordered("<", x, constant(np.log(info.tiny)))
        return self.zero_where(below, builder.fmul(y, power))
