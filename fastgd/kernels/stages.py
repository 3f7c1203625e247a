"""Update rules in two stages, of which the second follows some registers behind the first.

A root takes a processor some twenty cycles, and a quotient by it as many.  In a plain loop all that
waits for them fills the processor's queues, and it begins with the next elements too late.  Here
the roots of some registers are on their way while the elements before them are divided: software
pipelining (Lam 1988, "Software pipelining: an effective scheduling technique for VLIW machines").

The stages are written once, as plain Python functions of numbers: of those of an array without the
compiler, of registers of them with it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from fastgd._jit import compiler_flags
from fastgd.kernels.elementary import divide, emit_quotient
from fastgd.kernels.plan import make_array
from fastgd.kernels.vectors import VECTOR_BYTES, broadcast, number_bytes

DISTANCE = 2  # registers that the second stage lies behind
FLAGS = ("contract", "nsz")


class Numbers:
    """A register of numbers, or a single one, in code that is being generated."""

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
        kind = self.value.type
        suffix = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
        name = f"llvm.sqrt.{suffix}f{8 * number_bytes(kind)}"
        declared = ir.FunctionType(kind, [kind])
        function = cgutils.get_or_insert_function(self._builder.module, declared, name)
        return self._of(self._builder.call(function, [self.value]))

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


Step = Callable[..., Any]


def two_stages(first: Step, second: Step) -> Step:
    """Build ``update(w, g, state, constants)``, which updates all elements in place.

    Parameters
    ----------
    first : callable
        ``first(constants, g, w, *state)`` returns two tuples: the new state of an element, or its
        first few numbers, and what is handed on to the second stage.
    second : callable
        ``second(constants, w, *rest_of_state, *handed_on)`` returns the new w, and the new rest.

    Both are made of ``+``, ``-``, ``*``, ``root``, ``quotient`` and ``larger_of``.  The constants
    are a tuple of numbers of w's type; the state has at least as many rows as ``first`` takes.
    """
    n_state = len(inspect.signature(first).parameters) - 3

    def update(w: Any, g: Any, state: Any, constants: Any) -> None:
        for i in range(w.size):
            kept, handed_on = first(constants, g[i], w[i], *state[:n_state, i])
            rest = state[len(kept) : n_state, i]
            w[i], *rest = second(constants, w[i], *rest, *handed_on)
            state[:n_state, i] = (*kept, *rest)

    @intrinsic
    def generated(typingctx, w, g, state, constants):
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            w, g, state = (
                make_array(kind)(context, builder, array)
                for kind, array in zip(sig.args[:3], args[:3], strict=True)
            )
            n = w.nitems
            rows = [state.data]
            while len(rows) < n_state:
                rows.append(builder.gep(rows[-1], [n]))
            numbers = cgutils.unpack_tuple(builder, args[3])
            arrays = _Elements(builder, (first, second), w.data, g.data, rows, numbers)
            _generate_loops(builder, arrays, n, 8 * VECTOR_BYTES // sig.args[0].dtype.bitwidth)
            return context.get_dummy_value()

        return types.void(w, g, state, constants), codegen

    @overload(update, jit_options=compiler_flags(inline=True))
    def _(w: Any, g: Any, state: Any, constants: Any) -> Step:
        def run(w: Any, g: Any, state: Any, constants: Any) -> None:
            generated(w, g, state, constants)

        return run

    return update


class _Elements:
    """The code of both stages for the elements from some place on: a register of them, or one."""

    def __init__(
        self, builder: Any, stages: tuple[Step, Step], w: Any, g: Any, state: list[Any],
        constants: list[Any],
    ) -> None:  # fmt: skip
        self._builder, self._constants = builder, constants
        self._first, self._second = stages
        self._w, self._g, self._state = w, g, state
        self.number = w.type.pointee

    def first(self, i: Any, kind: Any) -> list[Any]:
        """Update the state from element ``i`` on; returns what is handed on."""
        read = [self._load(array, i, kind) for array in (self._g, self._w, *self._state)]
        kept, handed_on = self._first(self._constants_of(kind), *read)
        for array, numbers in zip(self._state, kept, strict=False):
            self._store(numbers, array, i)
        self._in_second = [self._w, *self._state[len(kept) :]]
        return [numbers.value for numbers in handed_on]

    def second(self, i: Any, kind: Any, handed_on: list[Any]) -> None:
        """Update w, and the rest of the state, from element ``i`` on."""
        read = [self._load(array, i, kind) for array in self._in_second]
        read += [Numbers(self._builder, value) for value in handed_on]
        written = self._second(self._constants_of(kind), *read)
        for array, numbers in zip(self._in_second, written, strict=True):
            self._store(numbers, array, i)

    def _constants_of(self, kind: Any) -> list[Numbers]:
        values = self._constants
        if isinstance(kind, ir.VectorType):
            values = [broadcast(self._builder, value, kind) for value in values]
        return [Numbers(self._builder, value) for value in values]

    def _place(self, array: Any, i: Any, kind: Any) -> Any:
        place = self._builder.gep(array, [i])
        return self._builder.bitcast(place, kind.as_pointer())

    def _load(self, array: Any, i: Any, kind: Any) -> Numbers:
        place = self._place(array, i, kind)
        return Numbers(self._builder, self._builder.load(place, align=number_bytes(kind)))

    def _store(self, numbers: Numbers, array: Any, i: Any) -> None:
        kind = numbers.value.type
        place = self._place(array, i, kind)
        self._builder.store(numbers.value, place, align=number_bytes(kind))


def _generate_loops(builder: Any, elements: _Elements, n: Any, lanes: int) -> None:
    """Some registers at a time in two stages; then what is left, first by registers."""
    single = elements.number
    register = ir.VectorType(single, lanes)

    def place(i: Any, registers: int) -> Any:
        return builder.add(i, ir.Constant(n.type, registers * lanes))

    step = ir.Constant(n.type, DISTANCE * lanes)
    whole = builder.sub(n, builder.srem(n, step))
    zero = ir.Constant(n.type, 0)
    with builder.if_then(builder.icmp_signed(">", whole, zero)):
        waiting = []
        for r in range(DISTANCE):
            handed_on = elements.first(place(zero, r), register)
            waiting.append([cgutils.alloca_once_value(builder, value) for value in handed_on])
        with cgutils.for_range_slice(builder, step, whole, step) as (i, _):
            for r, slots in enumerate(waiting):
                before = [builder.load(slot) for slot in slots]
                handed_on = elements.first(place(i, r), register)
                elements.second(place(i, r - DISTANCE), register, before)
                for slot, value in zip(slots, handed_on, strict=True):
                    builder.store(value, slot)
        for r, slots in enumerate(waiting):
            last = [builder.load(slot) for slot in slots]
            elements.second(place(whole, r - DISTANCE), register, last)
    registers = builder.sub(n, builder.srem(n, ir.Constant(n.type, lanes)))
    for kind, start, stop, by in ((register, whole, registers, lanes), (single, registers, n, 1)):
        step = ir.Constant(n.type, by)
        with cgutils.for_range_slice(builder, start, stop, step) as (i, _):
            elements.second(i, kind, elements.first(i, kind))
