"""Rows of few outputs: a softmax that keeps a row in registers, written as vector instructions.

A loop over ten elements does not fill a vector, and what a row leaves in memory comes back too
late: a load that needs several recent stores has to wait for them.  So a row is loaded once, and
stored when its derivatives are done; nothing of it lies in memory in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic
from numba.np.arrayobj import make_array

from fastgd.kernels.elementary import DOUBLE, SINGLE
from fastgd.kernels.tiles import Vectors

FUSED = ("contract",)


@intrinsic(prefer_literal=True)
def softmax_row(typingctx, z, start, k, own, weight, delta, lanes):
    """The softmax of the ``k`` outputs from ``start`` on, at most the constant ``lanes``.

    Returns the sum of all ``exp(z - max)`` but that of one largest output, which is 1, and how far
    output ``own`` lies below the largest; writes the derivatives of the cross-entropy of ``own``.
    A NaN, or an infinite largest output, makes the sum and the derivatives NaN.
    """
    if not isinstance(lanes, types.IntegerLiteral):
        return None
    real = z.dtype

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        row, target = (
            builder.gep(make_array(sig.args[i])(context, builder, args[i]).data, [args[1]])
            for i in (0, 5)
        )
        k, own, weight = args[2:5]
        element = context.get_value_type(real)
        vector = Vectors(builder, element, lanes.literal_value, 1, k)
        own_z = builder.load(builder.gep(row, [own]))
        index = _number_of_lane(vector.type.count)
        # What lies beyond the edge is less than all: it is no maximum, and its exponential is 0.
        inside = builder.icmp_signed("<", index, vector.broadcast(k, index.type))
        x = builder.select(inside, vector.load(row, 0), _constant(vector, -np.inf))
        top = _fold(builder, x, lambda a, b: _select(builder, ">", a, b, a, b))
        x = builder.fsub(x, vector.broadcast(top))
        e = _exp(builder, vector, np.finfo(str(real)), x)
        others = builder.select(_first_zero(builder, vector, x), vector.zero, e)
        rest = _fold(builder, others, builder.fadd)
        scale = builder.fdiv(weight, builder.fadd(ir.Constant(element, 1.0), rest))
        is_own = builder.icmp_signed("==", index, vector.broadcast(own, index.type))
        taken = builder.select(is_own, vector.broadcast(weight), vector.zero)
        product = builder.fmul(e, vector.broadcast(scale), flags=FUSED)
        vector.store(builder.fsub(product, taken, flags=FUSED), target, 0)
        return context.make_tuple(builder, sig.return_type, [rest, builder.fsub(top, own_z)])

    return types.UniTuple(real, 2)(z, start, k, own, weight, delta, lanes), codegen


def _number_of_lane(lanes: int) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(64), lanes), list(range(lanes)))


def _constant(vector: Vectors, value: float) -> Any:
    return ir.Constant(vector.type, [float(value)] * vector.type.count)


def _select(builder: Any, relation: str, a: Any, b: Any, then: Any, otherwise: Any) -> Any:
    """``then if a > b else otherwise``, lane for lane; a NaN is in no relation to anything."""
    return builder.select(builder.fcmp_ordered(relation, a, b), then, otherwise)


def _fold(builder: Any, value: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """Combine all lanes of a vector, one half with the other, down to a number."""
    i32, count = ir.IntType(32), value.type.count
    while count > 2:
        count //= 2
        low, high = (
            builder.shuffle_vector(
                value, ir.Constant(value.type, ir.Undefined),
                ir.Constant(ir.VectorType(i32, count), list(range(start, start + count))),
            )
            for start in (0, count)
        )  # fmt: skip
        value = combine(low, high)
    return combine(*(builder.extract_element(value, ir.Constant(i32, i)) for i in (0, 1)))


def _first_zero(builder: Any, vector: Vectors, x: Any) -> Any:
    """A mask of the first lane that is 0; empty if there is none."""
    mask = builder.fcmp_ordered("==", x, vector.zero)
    bits = builder.bitcast(mask, ir.IntType(vector.type.count))
    return builder.bitcast(builder.and_(bits, builder.neg(bits)), mask.type)


def _exp(builder: Any, vector: Vectors, info: Any, x: Any) -> Any:
    """exp(x) for x <= 0, as in elementary.py, but 0 where that is below the normal numbers."""
    c = SINGLE if info.bits == 32 else DOUBLE

    def plus(a: Any, b: Any) -> Any:
        return builder.fadd(a, b, flags=FUSED)

    def minus(a: Any, b: Any) -> Any:
        return builder.fsub(a, b, flags=FUSED)

    def times(a: Any, b: Any) -> Any:
        return builder.fmul(a, b, flags=FUSED)

    def constant(value: float) -> Any:
        return _constant(vector, info.dtype.type(value))

    rounder = constant(1.5 * 2.0**info.nmant + info.maxexp - 1)
    rounded = plus(times(x, constant(np.log2(np.e))), rounder)
    n = minus(rounded, rounder)
    r = minus(minus(x, times(n, constant(c.ln2_high))), times(n, constant(c.ln2_low)))
    *lower, value = (constant(term) for term in c.exp)
    for term in reversed(lower):
        value = plus(times(value, r), term)
    y = plus(constant(1.0), plus(r, times(times(r, r), value)))
    whole = ir.VectorType(ir.IntType(info.bits), vector.type.count)
    shift = ir.Constant(whole, [info.nmant] * vector.type.count)
    power = builder.bitcast(builder.shl(builder.bitcast(rounded, whole), shift), vector.type)
    # Unlike a maximum with the smallest argument, this lets a NaN through.
    return _select(builder, "<", x, constant(np.log(info.tiny)), vector.zero, times(y, power))
