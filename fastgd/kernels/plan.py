"""The plan: one record that tells a kernel where everything lies.

A kernel needs some thirty arrays.  Handed over one by one they would fill the argument lists of
all functions, and take longer to compile than the code that uses them.  So they are handed over
as a C program would do it: a record of addresses and sizes.  ``Plan`` keeps the arrays alive, and
kernels look at parts of them through ``reals(plan, plan.units, start, stop)`` and its kin.

Shape letters: N samples, B rows of a batch, D features, K outputs, L layers, n parameters,
C chunks of the parameters, T threads.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from fastgd._jit import njit
from fastgd.kernels.aligned import address, aligned_zeros
from fastgd.kernels.vectors import prefetch_line

LAYER = np.dtype(
    [
        ("n_in", np.int64),
        ("n_out", np.int64),
        ("weights", np.int64),  # offset in w of the (n_in, n_out) matrix
        ("biases", np.int64),  # offset in w of the (n_out,) vector
        ("outputs", np.int64),  # offset in the units of a batch, to be multiplied by B
        ("raw", np.int64),  # the same for the values before the activation; -1: not kept
        ("undropped", np.int64),  # the same for the outputs before dropout; -1: not kept
        ("deltas", np.int64),  # the same, in delta, for the derivatives by the raw values
        ("panels", np.int64),  # the same, in panels, for these packed; -1: they never are
        ("activation", np.int64),  # its place in the table of activations
        ("dropout", np.float64),  # share of the outputs that training sets to zero
    ]
)

# Arrays, each with what it holds.
ARRAYS = (
    "layers",  # the layer table (L,)
    "activations",  # (L, 2): addresses of the compiled pair of each layer
    "chunks",  # (C + 1,): where the chunks of the parameters begin and end
    "w",  # parameters (n,)
    "grad",  # their gradient (n,); with a piece only the part of it by the last chunk is there
    "piece",  # of each thread's own, room for that part; nowhere: there is room for all of it
    "values",  # of the input: all of a dense one (N, D), those that are not 0 of a sparse one
    "indices",  # of a sparse input, int32 or int64
    "indptr",
    "order",  # row numbers in the order of the epoch (N,); nowhere: as they lie
    "y",  # (N, K) real numbers or (N, 1) class numbers
    "weight",  # of the samples (N,); nowhere: all weigh the same
    "x",  # gathered rows of the input (B, D)
    "units",  # outputs of all layers, and what else activations ask for
    "delta",  # derivatives by the raw values of all layers
    "panels",  # those of wide layers once more, packed; nowhere: where they are needed
    "targets",  # of the batch, like y
    "weights",  # of the batch, as shares of their sum (B,)
    "ones",  # as many (B,), for sums over the rows
    "squares",  # (C, squares_row): sums over a chunk, of its gradient by layer, of its weights
    "losses",  # of each block of the rows of a batch, a line of the cache for each
    "state",  # of the update rule; a chunk's part is (number of its names, length of the chunk)
    "scalars",  # (number of state chunks, scalars_row), of which the rule sees ``n_scalars``
    "state_chunks",  # where those chunks begin and end
    "updates",  # their number so far (1,): a signal may come before a call's result is stored
    "rates",  # learning rate of each step of a call
    "totals",  # (4 + L,), see ``run_batches``
    "curvatures",  # (L,): addresses of the second derivatives of the activations
    "direction",  # another plan, whose ``w`` is a direction and whose ``delta`` changes along it
    "tangents",  # how the outputs of all layers change along the direction, in delta's order
    "bends",  # how the derivatives of the activations do
    "jacobian",  # derivatives of the residuals of a block or of all rows (B K or N K, n)
    "normal",  # product of the Jacobian's transpose with it (n, n), its lower triangle
    "out",  # predictions or residuals (N, K); nowhere: not asked for
    "input_sum",  # (1,): grows by the numbers of a dense input; nowhere: not asked for
    "codes",  # number of the largest prediction of each sample (N,); nowhere: not asked for
    "listed_batch",  # how many rows are listed by features, and which (1 + B,); nowhere: none are
    "listed_starts",  # where the entries of each group of features begin, see ``kernels.listed``
    "listed_features",  # of the entries
    "listed_rows",  # their rows, counted from the first one of the batch
    "listed_values",  # and the entries themselves
    "panel",  # room for columns of a matrix; one per thread
    "packed",  # room for rows of a matrix; one per thread
    "masks",  # room for those of the zeros of a matrix; one per thread
    "sums",  # room for some rows of a product; one per thread
    "pieces",  # room for numbers of both as the matrix unit takes them; one per thread
    "counters",  # of the team
    "shares",  # of the blocks of a batch, as the members are fast; nowhere: all equal
    "half_shares",  # likewise of the blocks of both halves of the features, one after the other
    "part_grad",  # what the second part of a batch gives to the gradient (n,)
    "part_units",  # what the second half of the features gives to the first layer (B, n_out)
)
# Those of them that hold real numbers of the plan's precision.
REALS = frozenset((
    "w", "grad", "piece", "values", "weight", "x", "units", "delta", "panels", "weights", "ones",
    "state", "tangents", "bends", "jacobian", "normal", "out", "panel", "packed", "part_grad",
    "part_units", "listed_values",
))  # fmt: skip
# What is called: the address of the code, and in ``…_fields`` that of its parameters.
PARTS = (
    "loss", "loss_curvature", "link", "rule", "dropout", "clip", "constrain", "affine",
    "accumulate", "outer",
)  # fmt: skip
NUMBERS = (
    "itemsize",  # bytes of a real number
    "n_layers",
    "n_chunks",
    "n_samples",
    "n_features",
    "n_listed",  # entries that there is room for in the lists by features
    "rows",  # B: for so many the buffers were made
    "squares_row",  # L + 1, rounded up to whole lines of the cache
    "loss_rows",  # of a block, the same for any number of threads
    "target_words",  # length of a row of y in units of 4 bytes
    "n_state",  # number of state arrays
    "n_scalars",  # numbers that the rule keeps for each chunk
    "scalars_row",  # the same, rounded up to whole lines of the cache
    "n_state_chunks",
    "product",  # address of the compiled matrix product
    "product_by_tiles",  # of the one to which a product by the matrix unit leaves what is small
    "tiles",  # of the code that it is made of; nowhere: BLAS
    "pack",  # of what transposes columns
    "without_zeros",  # of what leaves out zeros; nowhere: no product is so large
    "pack_deltas",  # of what fills the panels
    "losses_and_deltas",  # of what passes a batch through the network, there and back
    "rank",  # of the thread that this plan is for
    "size",  # of its team
    "wait",  # addresses of what a team of more than one calls
    "take",
    "control",  # what the processor is told of subnormal numbers outside of the loop
    "at_once",  # whether a chunk is updated as soon as the gradient by it is known
    "deals_rows",  # whether members help each other with the rows of a batch
    "n_parts",  # of a batch whose gradients are added, the same for any number of threads
    "middle",  # where the second half of the features begins, likewise; 0: they are not halved
    "own_half",  # addresses of what computes the halves
    "both_halves",
    "even_out",  # of what makes the shares fit the members
)


@functools.cache
def plan_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Type of the record of a plan in a precision.

    The same object for all plans: Numba compares another one field by field, in each call.
    """
    names = (*ARRAYS, *PARTS, *(f"{part}_fields" for part in PARTS), *NUMBERS)
    kinds = [(name, np.int64) for name in names]
    # ``real`` is there for its type alone, from which views take theirs.
    return np.dtype([*kinds, ("alpha", np.float64), ("real", dtype)], align=True)


@functools.cache
def _places(dtype: np.dtype[Any]) -> dict[str, int]:
    """Where the whole numbers of a record are, counted in numbers of 8 bytes."""
    fields: Any = plan_dtype(dtype).fields
    return {name: field[1] // 8 for name, field in fields.items() if field[0] == np.int64}


class Plan:
    """Everything that a kernel needs to know, and the arrays behind it.

    ``plan.set(units=array, n_layers=3)`` notes the address of an array, or a whole number, and of
    ``alpha`` any; an empty array lies nowhere, at address 0.  ``plan.record`` is what kernels get.
    """

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.record = aligned_zeros(1, plan_dtype(self.dtype))
        # To write a field of a record takes five times as long.
        self._numbers = self.record.view(np.int64).data
        self._places = _places(self.dtype)
        self._kept: dict[str, Any] = {}
        self.set(itemsize=self.dtype.itemsize, size=1, n_parts=1)

    def set(self, **values: Any) -> Plan:
        """Note some entries; returns the plan."""
        numbers, places = self._numbers, self._places
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                if name in REALS and value.size and value.dtype != self.dtype:
                    raise TypeError(f"{name} must be of {self.dtype}, got {value.dtype}.")
                numbers[places[name]] = address(value)
            elif name in PARTS:
                numbers[places[name]] = value.address
                numbers[places[f"{name}_fields"]] = address(value.fields)
            elif name == "alpha":
                self.record[0][name] = value
            else:
                numbers[places[name]] = value
        self._kept.update(values)
        return self

    def forget(self, *names: str) -> None:
        """Let go of arrays."""
        for name in names:
            self._numbers[self._places[name]] = 0
            self._kept.pop(name, None)

    def copy(self) -> Plan:
        """Another plan with the same entries."""
        other = Plan(self.dtype)
        other._numbers[:] = self._numbers
        other._kept = dict(self._kept)
        return other

    def __reduce__(self) -> Any:
        raise TypeError("A plan holds addresses in this process; make another one.")

    def __getitem__(self, name: str) -> Any:
        """What was set, or None."""
        return self._kept.get(name)


def make_array(kind: Any) -> Any:
    """Numba's helper, whose module takes long to import and is needed by the compiler alone."""
    from numba.np import arrayobj

    return arrayobj.make_array(kind)


def _make_view(context: Any, builder: Any, kind: Any, address: Any, start: Any, *shape: Any) -> Any:
    """Emit a C-contiguous array that owns nothing, from element ``start`` after an address on."""
    number = kind.dtype
    size = number.size if isinstance(number, types.Record) else number.bitwidth // 8
    size = context.get_constant(types.intp, size)
    array = make_array(kind)(context, builder)
    strides = [size]
    for length in shape[:0:-1]:
        strides.insert(0, builder.mul(length, strides[0]))
    place = builder.add(address, builder.mul(start, size))
    context.populate_array(
        array, data=builder.inttoptr(place, array.data.type), shape=shape, strides=strides,
        itemsize=size, meminfo=None,
    )  # fmt: skip
    return array._getvalue()


@intrinsic
def array_at(typingctx, address, length, like):
    """``length`` numbers of the type of ``like``, from an address on."""
    kind = types.Array(like, 1, "C")

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _make_view(context, builder, kind, args[0], ir.Constant(args[0].type, 0), args[1])

    return kind(types.intp, types.intp, like), codegen


@intrinsic
def size_of(typingctx, like):
    """Bytes of a number of the type of ``like``: a constant, by which to divide costs nothing."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.get_constant(types.intp, sig.args[0].bitwidth // 8)

    return types.intp(like), codegen


@intrinsic
def copy_to(typingctx, target, source):
    """Copy a vector to another one of its type and length, elsewhere."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        to, from_ = (make_array(target)(context, builder, array) for array in args)
        length = cgutils.unpack_tuple(builder, to.shape)[0]
        cgutils.raw_memcpy(builder, to.data, from_.data, length, to.itemsize)
        return context.get_dummy_value()

    return (types.void(target, source), codegen) if target == source else None


@intrinsic
def prefetch(typingctx, address):
    """Ask for a line of memory that is read a little later, but not at once."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        prefetch_line(builder, builder.inttoptr(args[0], cgutils.voidptr_t), level=2)
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic(prefer_literal=True)
def stack_array(typingctx, length, like):
    """A small array for the time of a call; ``length`` is a constant."""
    if not isinstance(length, types.IntegerLiteral):
        return None
    kind = types.Array(types.unliteral(like), 1, "C")

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        element = context.get_data_type(kind.dtype)
        room = cgutils.alloca_once(builder, element, size=length.literal_value)
        start, stop = (ir.Constant(ir.IntType(64), i) for i in (0, length.literal_value))
        place = builder.ptrtoint(room, start.type)
        return _make_view(context, builder, kind, place, start, stop)

    return kind(length, like), codegen


@njit(inline=True)
def smaller(a, b):
    """The smaller of two numbers; Python's own ``min`` takes long to compile."""
    return a if a < b else b


@njit(inline=True)
def larger(a, b):
    """The larger of two numbers."""
    return a if a > b else b


@intrinsic
def state_rows(typingctx, plan, address, start, n_rows, length):
    """A matrix of real numbers, of ``n_rows`` rows, that begins at a place of a vector."""
    kind = types.Array(plan.typeof("real"), 2, "C")
    i = types.intp

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _make_view(context, builder, kind, *args[1:])

    return kind(plan, i, i, i, i), codegen


def _viewer(element_type: Any) -> Any:
    """Build ``view(plan, address, start, stop)``; ``element_type(plan)`` is what lies there."""

    @intrinsic
    def view(typingctx, plan, address, start, stop):
        kind = types.Array(element_type(plan), 1, "C")
        i = types.intp

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            _, address, start, stop = args
            length = builder.sub(stop, start)
            return _make_view(context, builder, kind, address, start, length)

        return kind(plan, i, i, i), codegen

    return view


def _reader(kind: Any) -> Any:
    """Build ``number_at(address, i)``: the number ``i`` places after an address."""

    @intrinsic
    def read(typingctx, address, i):
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], context.get_data_type(kind).as_pointer())
            return builder.load(builder.gep(pointer, [args[1]]))

        return kind(types.intp, types.intp), codegen

    return read


@intrinsic
def layer_at(typingctx, layers, l):
    """A row of the layer table."""
    kind = numba.from_dtype(LAYER)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], context.get_value_type(kind))
        return builder.gep(pointer, [args[1]])

    return kind(types.intp, types.intp), codegen


int64_at = _reader(types.int64)
float64_at = _reader(types.float64)

reals = _viewer(lambda plan: plan.typeof("real"))
float64s = _viewer(lambda plan: types.float64)
int64s = _viewer(lambda plan: types.int64)
int32s = _viewer(lambda plan: types.int32)
layer_records = _viewer(lambda plan: numba.from_dtype(LAYER))
plan_records = _viewer(lambda plan: plan)


@njit
def row_number(plan, i):
    """The number of the sample that is in place ``i`` of the order of the epoch."""
    return int64_at(plan.order, i) if plan.order != 0 else i
