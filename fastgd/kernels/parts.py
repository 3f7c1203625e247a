"""Parts: the update rule, the loss, the activations of a network, called by their addresses.

A kernel that names what it calls is compiled anew for each combination of rule, loss and
activations.  Here each of them is compiled once, by itself, and a kernel gets its address and its
hyper-parameters as numbers: a new rule costs the compilation of that rule, whatever the network.
The price is an indirect call, some nanoseconds for a whole batch.

What is called is a method of a NamedTuple, ours or the user's; ``Part.fields`` are its fields.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic
from numpy.typing import NDArray

from fastgd._jit import native_address
from fastgd._jit.cache import is_ours


class Part(NamedTuple):
    """A compiled method of a record, and the fields of that record; address 0: nothing to do."""

    address: int
    fields: NDArray[np.float64]


NOTHING = Part(0, np.zeros(0))


def call_at(signature: Any) -> tuple[Any, Callable[..., Any]]:
    """Type and code of an intrinsic ``f(address, *arguments)`` that calls what lies there.

    In Numba's own calling convention.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address, *values = args
        convention = context.call_conv
        kind = convention.get_function_type(signature.return_type, signature.args)
        status, result = convention.call_function(
            builder, builder.inttoptr(address, kind.as_pointer()), signature.return_type,
            signature.args, values,
        )  # fmt: skip
        with cgutils.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return context.get_dummy_value() if signature.return_type == types.none else result

    return signature.return_type(types.int64, *signature.args), codegen


def _flat(dtype: Any) -> Any:
    return types.Array(dtype, 1, "C")


# Signatures: the first argument of a part is the address of its fields.

I64, F64 = types.int64, types.float64


@functools.cache
def step_signature(real: Any) -> Any:
    flat, state = _flat(real), types.Array(real, 2, "C")
    return types.void(I64, flat, flat, state, _flat(F64), I64, F64)


@functools.cache
def loss_signature(real: Any) -> Any:
    flat = _flat(real)
    return F64(I64, flat, I64, flat, I64, I64, flat)


@functools.cache
def loss_curvature_signature(real: Any) -> Any:
    flat = _flat(real)
    return types.void(I64, flat, I64, flat, I64, I64, flat)


@functools.cache
def link_signature(real: Any) -> Any:
    return types.void(I64, _flat(real), I64, I64)


@functools.cache
def drop_signature(real: Any) -> Any:
    return types.void(I64, _flat(real), I64, F64, I64, I64)


@functools.cache
def activate_signature(real: Any) -> Any:
    return types.void(_flat(real))


@functools.cache
def activate_backward_signature(real: Any) -> Any:
    return types.void(_flat(real), _flat(real), _flat(real))


@functools.cache
def clip_signature(real: Any) -> Any:
    return types.void(I64, _flat(real))


@functools.cache
def constrain_signature(layers: Any, real: Any) -> Any:
    return types.void(I64, _flat(layers), _flat(real), _flat(real))


def product_signature(plan: Any) -> Any:
    i, real = types.intp, plan.typeof("real")
    return types.void(plan, i, i, i, i, i, i, i, i, i, real, i, i, i, i)


@intrinsic
def call_step(typingctx, address, fields, w, g, state, scalars, t, learning_rate):
    """One update of ``w`` in place by a rule."""
    return call_at(step_signature(w.dtype))


@intrinsic
def call_loss(typingctx, address, fields, z, y, weight, n_rows, k, delta):
    """Weighted sum of a loss over the rows, whose targets lie at the address ``y``."""
    return call_at(loss_signature(z.dtype))


@intrinsic
def call_loss_curvature(typingctx, address, fields, z, y, weight, n_rows, k, t):
    """Replace the rows of ``t`` by their products with the second derivatives of a loss."""
    return call_at(loss_curvature_signature(z.dtype))


@intrinsic
def call_link(typingctx, address, fields, z, n_rows, k):
    """Replace raw outputs by predictions."""
    return call_at(link_signature(z.dtype))


@intrinsic
def call_drop(typingctx, address, fields, a, first, rate, step, layer):
    """Set a share ``rate`` of ``a`` to zero and scale up the rest."""
    return call_at(drop_signature(a.dtype))


@intrinsic
def call_activate(typingctx, address, z):
    """Replace raw values by the activation of them."""
    return call_at(activate_signature(z.dtype))


@intrinsic
def call_activate_backward(typingctx, address, a, raw, delta):
    """Multiply ``delta`` by the derivative of the activation."""
    return call_at(activate_backward_signature(a.dtype))


@intrinsic
def call_clip(typingctx, address, fields, grad):
    """Bound the gradient."""
    return call_at(clip_signature(grad.dtype))


@intrinsic
def call_constrain(typingctx, address, fields, layers, w, norms):
    """Bound the parameters after an update."""
    return call_at(constrain_signature(layers.dtype, w.dtype))


@intrinsic
def call_product(
    typingctx, address, plan, m, n, k, a, a_row, a_col, b, b_row, b_col, beta, d, d_row,
    c, c_row,
):  # fmt: skip
    """``C = A B + beta D``; see ``gemm``."""
    return call_at(product_signature(plan))


def _rebuilder(record_type: Any) -> Any:
    """Build the function that makes a record again of its fields, float64 numbers at an address."""

    @intrinsic
    def rebuild(typingctx, fields):
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            data = builder.inttoptr(args[0], ir.DoubleType().as_pointer())
            values = []
            for place, kind in enumerate(record_type):
                number = builder.load(builder.gep(data, [ir.Constant(ir.IntType(64), place)]))
                values.append(context.cast(builder, number, types.float64, kind))
            return context.make_tuple(builder, record_type, values)

        return record_type(types.int64), codegen

    return rebuild


def make_part(record: Any, wrapper: Callable[..., Any], name: str, signature: Any) -> Part:
    """Compile a method of a record, once per class of records and signature.

    Parameters
    ----------
    record : NamedTuple
        Its fields are numbers.
    wrapper : callable
        ``wrapper(rebuild, cls)`` returns the function to compile, which gets the address of the
        fields first; ``cls`` is the class of the record.
    name : str
        Of the method.
    signature : numba signature
    """
    numbers = [float(value) for value in record]
    for field, value, number in zip(record._fields, record, numbers, strict=True):
        if isinstance(value, int) and int(number) != value:
            raise ValueError(
                f"{type(record).__name__}: {field} must be a whole number below 2**53, got {value}."
            )
    method = getattr(type(record), name)
    cls: Any = type(record)
    kind = _record_type(cls, tuple(map(type, record)))
    return Part(_compiled(kind, method, wrapper, name, signature), np.array(numbers, np.float64))


@functools.cache
def _record_type(cls: Any, kinds: tuple[type, ...]) -> Any:
    """Numba's type of a record; ``numba.typeof`` takes tens of microseconds each time."""
    return numba.typeof(cls._make(kind() for kind in kinds))


@functools.cache
def _compiled(
    record_type: Any, method: Any, wrapper: Callable[..., Any], name: str, signature: Any
) -> int:
    cls = record_type.instance_class
    kinds = ".".join(str(kind) for kind in record_type)
    return native_address(
        wrapper(_rebuilder(record_type), cls), signature,
        f"{cls.__module__}.{cls.__qualname__}.{name}-{kinds}", is_ours(cls) and is_ours(method),
    )  # fmt: skip
