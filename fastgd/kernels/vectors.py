"""Vectors of numbers, some of which may not be there, as LLVM's instructions.

What lies beyond an edge is not read and not written.  With the registers of AVX-512 masks say what
is there.  AVX2 has masks, too, but AMD's processors take tens of cycles for a masked store there;
so the first numbers of a vector are written by two stores of a power of two of them, one at either
end, which may overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from fastgd._jit import processor_has


def _register_bytes() -> int:
    if processor_has("avx512f"):
        return 64
    return 32 if processor_has("avx2", "fma") else 16


VECTOR_BYTES = _register_bytes()
SHORT_REGISTERS = VECTOR_BYTES == 32  # AVX2 without AVX-512

I32, I64 = ir.IntType(32), ir.IntType(64)
WORDS = 8  # of 32 bits in a register of AVX2


class Vectors:
    """Loads, stores and broadcasts of ``count`` registers in a row of ``n`` columns.

    Either they lie side by side, and what is beyond the last column is left out (``masked``), or
    the last one ends there; then there are at least as many columns as it has places.
    """

    def __init__(
        self, builder: Any, element: Any, lanes: int, count: int, n: Any, masked: bool = True
    ) -> None:
        self._builder, self._lanes, self._n, self.count = builder, lanes, n, count
        self.type = ir.VectorType(element, lanes)
        self.zero = ir.Constant(self.type, [0.0] * lanes)
        self._starts = [ir.Constant(I64, i * lanes) for i in range(count)]
        self._masks = [self._mask(i * lanes, n) for i in range(count)] if masked else []
        if not masked:
            self._starts[-1] = builder.sub(n, ir.Constant(I64, lanes))

    def _mask(self, first: int, n: Any) -> Any:
        """Which of the columns from ``first`` on are there."""
        index = ir.VectorType(I32, self._lanes)
        limit = self.broadcast(self._builder.trunc(n, I32), index)
        columns = ir.Constant(index, list(range(first, first + self._lanes)))
        return self._builder.icmp_signed("<", columns, limit)

    def broadcast(self, value: Any, kind: Any = None) -> Any:
        """A vector with ``value`` in each lane."""
        return broadcast(self._builder, value, kind or self.type)

    def _at(self, pointer: Any, i: int) -> Any:
        moved = self._builder.gep(pointer, [self._starts[i]])
        return self._builder.bitcast(moved, self.type.as_pointer())

    def load(self, pointer: Any, i: int) -> Any:
        """Register ``i`` of the row that begins at ``pointer``; with masks 0 beyond the edge."""
        place = self._at(pointer, i)
        if not self._masks:
            return self._builder.load(place, align=number_bytes(self.type))
        return masked_load(self._builder, place, self._masks[i], self.zero)

    def store(self, value: Any, pointer: Any, i: int) -> None:
        """Write register ``i`` of a row, up to the edge."""
        if self._masks:
            there = self._builder.sub(self._n, self._starts[i])
            store_first(self._builder, value, self._at(pointer, i), there, self._masks[i])
        else:
            store_whole(self._builder, value, self._at(pointer, i))

    def store_rows(self, rows: list[list[Any]], pointer: Any, step: Any) -> Any:
        """Write rows that lie ``step`` numbers apart; returns where the next one begins."""
        if not (self._masks and SHORT_REGISTERS and self.count == 1):
            return self._store_rows(rows, pointer, step, self.store)
        # Asked once, not for each row, how many columns there are.
        for width in _widths(self._builder, self._n, self._lanes):

            def store(value: Any, pointer: Any, _: int, width: int = width) -> None:
                _store_ends(self._builder, value, self._at(pointer, 0), self._n, width)

            self._store_rows(rows, pointer, step, store)
        return self._builder.gep(pointer, [self._builder.mul(step, ir.Constant(I64, len(rows)))])

    def _store_rows(
        self, rows: list[list[Any]], pointer: Any, step: Any, store: Callable[[Any, Any, int], None]
    ) -> Any:
        for registers in rows:
            for i, value in enumerate(registers):
                store(value, pointer, i)
            pointer = self._builder.gep(pointer, [step])
        return pointer


def broadcast(builder: Any, value: Any, kind: Any) -> Any:
    """A vector of a type with ``value`` in each lane."""
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(I32, 0))
    lanes = ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count)
    return builder.shuffle_vector(first, undefined, lanes)


def shuffle(builder: Any, value: Any, places: list[int], second: Any = None) -> Any:
    """Some places of a vector, or of two in a row, as another one."""
    order = ir.Constant(ir.VectorType(I32, len(places)), places)
    return builder.shuffle_vector(value, second or ir.Constant(value.type, ir.Undefined), order)


def prefetch_line(builder: Any, place: Any, level: int) -> None:
    """Ask for the line of memory at ``place``, into the cache of a level."""
    declared = ir.FunctionType(ir.VoidType(), [place.type, I32, I32, I32])
    function = cgutils.get_or_insert_function(builder.module, declared, "llvm.prefetch.p0")
    to_read, locality, data = (ir.Constant(I32, number) for number in (0, 4 - level, 1))
    builder.call(function, [place, to_read, locality, data])


def masked_load(builder: Any, place: Any, mask: Any, fill: Any) -> Any:
    """The vector at ``place``; ``fill``'s numbers where the mask is not set."""
    size = ir.Constant(I32, number_bytes(fill.type))
    return _call_masked(builder, "load", fill.type, [place, size, mask, fill], fill.type)


def store_whole(builder: Any, value: Any, place: Any) -> None:
    """Write a vector."""
    builder.store(value, place, align=number_bytes(value.type))


def store_first(builder: Any, value: Any, place: Any, n: Any, mask: Any = None) -> None:
    """Write the first ``n`` numbers of a vector.

    ``mask`` says the same, for long registers.
    """
    lanes, half = value.type.count, value.type.count // 2
    if not SHORT_REGISTERS:
        size = ir.Constant(I32, number_bytes(value.type))
        _call_masked(builder, "store", ir.VoidType(), [value, place, size, mask], value.type)
    elif lanes * number_bytes(value.type) > VECTOR_BYTES:
        for i in range(0, lanes, half):
            part = shuffle(builder, value, list(range(i, i + half)))
            start = ir.Constant(I64, i)
            at = builder.gep(_numbers(builder, place), [start])
            at = builder.bitcast(at, part.type.as_pointer())
            store_first(builder, part, at, builder.sub(n, start))
    else:
        for width in _widths(builder, n, lanes):
            _store_ends(builder, value, place, n, width)


def _widths(builder: Any, n: Any, lanes: int) -> Iterator[int]:
    """Branch on the largest power of two that is at most ``n`` and ``lanes``.

    What the caller writes between two of the powers, to be gone through to the end, is the code of
    the first of the two.  Where n is 0 or less nothing is done.
    """
    done = builder.append_basic_block("stored")
    width = lanes
    while width:
        fits, less = builder.append_basic_block("fits"), builder.append_basic_block("less")
        builder.cbranch(builder.icmp_signed(">=", n, ir.Constant(n.type, width)), fits, less)
        builder.position_at_end(fits)
        yield width
        builder.branch(done)
        builder.position_at_end(less)
        width //= 2
    builder.branch(done)
    builder.position_at_end(done)


def _store_ends(builder: Any, value: Any, place: Any, n: Any, width: int) -> None:
    """Write the first ``n`` numbers of a vector: ``width`` of them, and as many up to the last."""
    if width == value.type.count:
        store_whole(builder, value, place)
        return
    low, start = list(range(width)), _numbers(builder, place)
    kind = ir.VectorType(value.type.element, width).as_pointer()
    store_whole(builder, shuffle(builder, value, low), builder.bitcast(start, kind))
    if width > 1:
        first = builder.sub(n, ir.Constant(I64, width))
        last = shuffle(builder, _moved_down(builder, value, first), low)
        store_whole(builder, last, builder.bitcast(builder.gep(start, [first]), kind))


def _moved_down(builder: Any, value: Any, first: Any) -> Any:
    """A vector that begins with number ``first`` of another one, which fits into a register."""
    kind, element = value.type, number_bytes(value.type) // 4
    words, n_words = ir.VectorType(ir.FloatType(), WORDS), kind.count * element
    value = builder.bitcast(value, ir.VectorType(ir.FloatType(), n_words))
    value = shuffle(builder, value, [i % n_words for i in range(WORDS)])
    order = ir.VectorType(I32, WORDS)
    first = builder.mul(builder.trunc(first, I32), ir.Constant(I32, element))
    order = builder.add(broadcast(builder, first, order), ir.Constant(order, list(range(WORDS))))
    declared = ir.FunctionType(words, [words, order.type])
    permute = cgutils.get_or_insert_function(builder.module, declared, "llvm.x86.avx2.permps")
    moved = builder.call(permute, [value, order])
    return builder.bitcast(shuffle(builder, moved, list(range(n_words))), kind)


def _numbers(builder: Any, place: Any) -> Any:
    """The address of a vector as that of its first number."""
    return builder.bitcast(place, place.type.pointee.element.as_pointer())


def call_on_numbers(builder: Any, name: str, *args: Any) -> Any:
    """Call LLVM's function of a name, such as ``sqrt``, for numbers or vectors of them."""
    kind = args[0].type
    count = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
    declared = ir.FunctionType(kind, [kind] * len(args))
    full_name = f"llvm.{name}.{count}f{8 * number_bytes(kind)}"
    return builder.call(cgutils.get_or_insert_function(builder.module, declared, full_name), args)


def number_bytes(kind: Any) -> int:
    """Bytes of a number, or of each number of a vector."""
    number = kind.element if isinstance(kind, ir.VectorType) else kind
    return 4 if number == ir.FloatType() else 8


def _call_masked(builder: Any, name: str, result: Any, args: list[Any], vector: Any) -> Any:
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(result, [arg.type for arg in args]),
        f"llvm.masked.{name}.v{vector.count}f{8 * number_bytes(vector)}.p0",
    )
    return builder.call(function, args)
