"""Update rules in two stages, of which the second follows some registers behind the first.

A root takes a processor some twenty cycles, and a quotient by it as many.  In a plain loop all that
waits for them fills the processor's queues, and it begins with the next elements too late.  Here
the roots of some registers are on their way while the elements before them are divided: software
pipelining (Lam 1988, "Software pipelining: an effective scheduling technique for VLIW machines").

The stages are written once, as plain Python functions of numbers: of those of an array without the
compiler, of registers of them with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic, overload

from fastgd._jit import compiler_flags
from fastgd.kernels.elementary import divide, emit_quotient
from fastgd.kernels.packing import whole_registers
from fastgd.kernels.plan import make_array
from fastgd.kernels.vectors import VECTOR_BYTES, Vectors, call_on_numbers, number_bytes

DISTANCE = 2  # registers that the second stage lies behind
FLAGS = ("contract", "nsz")


class Numbers:
    """A register of numbers in code that is being generated."""

    def __init__(self, builder: Any, value: Any) -> None:
        self._builder, self.value = builder, value

    def __add__(self, other: Numbers) -> Numbers:
        return self._of(self._builder.fadd(self.value, other.value, flags=FLAGS))

    def __sub__(self, other: Numbers) -> Numbers:
        return self._of(self._builder.fsub(self.value, other.value, flags=FLAGS))

    def __mul__(self, other: Numbers) -> Numbers:
        return self._of(self._builder.fmul(self.value, other.value, flags=FLAGS))

    def _of(self, value: Any) -> Numbers:
        return Numbers(self._builder, value)

    def root(self) -> Numbers:
        return self._of(call_on_numbers(self._builder, "sqrt", self.value))

    def divided_by(self, other: Numbers) -> Numbers:
        return self._of(emit_quotient(self._builder, self.value, other.value))

    def or_larger(self, other: Numbers) -> Numbers:
        is_larger = self._builder.fcmp_ordered(">", self.value, other.value)
        return self._of(self._builder.select(is_larger, self.value, other.value))


def root(x: Any) -> Any:
    """√x."""
    return x.root() if isinstance(x, Numbers) else x.dtype.type(math.sqrt(x))


def quotient(a: Any, b: Any) -> Any:
    """a / b; see ``divide``."""
    return a.divided_by(b) if isinstance(a, Numbers) else divide(a, b)


def larger_of(a: Any, b: Any) -> Any:
    """a if it is larger than b, else b."""
    if isinstance(a, Numbers):
        return a.or_larger(b)
    return a if a > b else b


Stage = Callable[..., Any]


def two_stages(first: Stage, second: Stage, n_state: int) -> Stage:
    """Build ``update(w, g, state, constants)``, which updates all elements in place.

    Parameters
    ----------
    first : callable
        ``first(constants, g, w, *state)`` returns two tuples: the new state of an element, or its
        first few numbers, and what is handed on to the second stage.
    second : callable
        ``second(constants, w, *rest_of_state, *handed_on)`` returns the new w, and the new rest.
    n_state : int
        Rows of the state that both see.

    Both are made of ``+``, ``-``, ``*``, ``root``, ``quotient`` and ``larger_of``.  The constants
    are a NamedTuple of numbers of w's type; with the compiler all arrays must be C-contiguous and
    of that type, too.
    """

    def update(w: Any, g: Any, state: Any, constants: Any) -> None:
        for i in range(w.size):
            kept, handed_on = first(constants, g[i], w[i], *state[:n_state, i])
            rest = state[len(kept) : n_state, i]
            w[i], *rest = second(constants, w[i], *rest, *handed_on)
            state[:n_state, i] = (*kept, *rest)

    @intrinsic
    def generated(typingctx, w, g, state, constants):
        if any(array.layout != "C" or array.dtype != w.dtype for array in (w, g, state)):
            raise TypingError("w, g and state must be C-contiguous and of one dtype.")

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            w, g, state = (
                make_array(kind)(context, builder, array)
                for kind, array in zip(sig.args[:3], args[:3], strict=True)
            )
            length = cgutils.unpack_tuple(builder, state.shape)[1]
            rows = [
                builder.gep(state.data, [builder.mul(length, ir.Constant(length.type, k))])
                for k in range(n_state)
            ]
            numbers = sig.args[3].instance_class(*cgutils.unpack_tuple(builder, args[3]))
            elements = _Elements(builder, (first, second), [g.data, w.data, *rows], numbers)
            _generate_loops(builder, elements, w.nitems, w.data.type.pointee)
            return context.get_dummy_value()

        return types.void(w, g, state, constants), codegen

    @overload(update, jit_options=compiler_flags(inline=True))
    def _(w: Any, g: Any, state: Any, constants: Any) -> Stage:
        def run(w: Any, g: Any, state: Any, constants: Any) -> None:
            generated(w, g, state, constants)

        return run

    return update


class _Elements:
    """The code of both stages for a register of elements."""

    def __init__(
        self, builder: Any, stages: tuple[Stage, Stage], arrays: list[Any], constants: Any
    ) -> None:
        self._builder, self._arrays, self._constants = builder, arrays, constants
        self._first, self._second = stages

    def first(self, i: Any, vector: Vectors) -> list[Any]:
        """Update the state from element ``i`` on; returns what is handed on."""
        g, w, *state = self._arrays
        numbers = [self._load(array, i, vector) for array in (g, w, *state)]
        kept, handed_on = self._first(self._constants_in(vector), *numbers)
        self._store(kept, state[: len(kept)], i, vector)
        self._in_second = [w, *state[len(kept) :]]
        return [x.value for x in handed_on]

    def second(self, i: Any, vector: Vectors, handed_on: list[Any]) -> None:
        """Update w, and the rest of the state, from element ``i`` on."""
        numbers = [self._load(array, i, vector) for array in self._in_second]
        numbers += [Numbers(self._builder, value) for value in handed_on]
        written = self._second(self._constants_in(vector), *numbers)
        self._store(written, self._in_second, i, vector)

    def _constants_in(self, vector: Vectors) -> Any:
        registers = (Numbers(self._builder, vector.broadcast(c)) for c in self._constants)
        return type(self._constants)(*registers)

    def _load(self, array: Any, i: Any, vector: Vectors) -> Numbers:
        return Numbers(self._builder, vector.load(self._builder.gep(array, [i]), 0))

    def _store(self, numbers: Any, arrays: list[Any], i: Any, vector: Vectors) -> None:
        for array, x in zip(arrays, numbers, strict=True):
            vector.store(x.value, self._builder.gep(array, [i]), 0)


def _generate_loops(builder: Any, elements: _Elements, n: Any, number: Any) -> None:
    """Some registers at a time in two stages; then what is left, one by one, the last in part."""
    lanes = VECTOR_BYTES // number_bytes(number)
    register = whole_registers(builder, number, lanes, 1)

    def place(i: Any, registers: int) -> Any:
        return builder.add(i, ir.Constant(n.type, registers * lanes))

    def multiple_below(step: int) -> Any:
        return builder.sub(n, builder.urem(n, ir.Constant(n.type, step)))

    zero, step = ir.Constant(n.type, 0), ir.Constant(n.type, DISTANCE * lanes)
    stop, whole = multiple_below(DISTANCE * lanes), multiple_below(lanes)
    with builder.if_then(builder.icmp_signed(">", stop, zero)):
        waiting = []
        for r in range(DISTANCE):
            handed_on = elements.first(place(zero, r), register)
            waiting.append([cgutils.alloca_once_value(builder, value) for value in handed_on])
        with cgutils.for_range_slice(builder, step, stop, step) as (i, _):
            for r, slots in enumerate(waiting):
                before = [builder.load(slot) for slot in slots]
                handed_on = elements.first(place(i, r), register)
                elements.second(place(i, r - DISTANCE), register, before)
                for slot, value in zip(slots, handed_on, strict=True):
                    builder.store(value, slot)
        for r, slots in enumerate(waiting):
            last = [builder.load(slot) for slot in slots]
            elements.second(place(stop, r - DISTANCE), register, last)
    for r in range(DISTANCE - 1):
        i = place(stop, r)
        with builder.if_then(builder.icmp_signed("<", i, whole)):
            elements.second(i, register, elements.first(i, register))
    with builder.if_then(builder.icmp_signed("<", whole, n)):
        part = Vectors(builder, number, lanes, 1, builder.sub(n, whole))
        elements.second(whole, part, elements.first(whole, part))
