"""The shuffle of NumPy's ``RandomState``, number for number, in half the time and without the GIL.

The numbers come from NumPy's own generator, through the interface that it has for compiled code
(``BitGenerator.ctypes``); what is done with them is Fisher and Yates' algorithm, as in NumPy.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic
from numpy.random import RandomState
from numpy.typing import NDArray

from fastgd._jit import njit
from fastgd.kernels.plan import smaller, stack_array

# Places that are drawn at a time: rows change places afterwards, in a loop without a decision.
DRAWS = 128
LONGEST = 2**32  # from here on NumPy draws numbers of 64 bits


@intrinsic
def _draw(typingctx, next_uint32, state):
    """Call the generator."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(64)])
        number = builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return builder.zext(number, ir.IntType(64))

    return types.int64(types.int64, types.int64), codegen


@njit(entry=True)
def _shuffle(order, next_uint32, state):
    drawn = stack_array(DRAWS, 0)
    last = order.size - 1
    mask = 1
    while mask < last:
        mask = 2 * mask + 1
    while last > 0:
        half = mask >> 1
        n, k = smaller(last - half, DRAWS), 0
        while k < n:
            # One number of two is too large: it is written over, as no processor could foresee it.
            place = _draw(next_uint32, state) & mask
            drawn[k] = place
            k += place <= last - k
        for i in range(n):
            order[last], order[drawn[i]] = order[drawn[i]], order[last]
            last -= 1
        if last == half:
            mask = half


def shuffle(random_state: RandomState, order: NDArray[np.int64]) -> None:
    """Do what ``random_state.shuffle(order)`` does.

    Parameters
    ----------
    random_state : RandomState
        One that nobody else has: it is not locked, since a fork while it is would leave a child
        with a generator that is locked for ever.  Left in the state in which its own method would
        leave it.
    order : ndarray of shape (N,)
        Row numbers, changed in place.
    """
    if order.size > LONGEST:
        random_state.shuffle(order)
        return
    generator: Any = random_state._bit_generator  # SciPy takes it from there, too
    interface = generator.ctypes
    next_uint32 = ctypes.cast(interface.next_uint32, ctypes.c_void_p).value
    _shuffle(order, next_uint32, interface.state_address)


def shuffle_code() -> None:
    """Compile what ``shuffle`` calls, or load it, before it is needed."""
    shuffle(RandomState(0), np.zeros(0, np.int64))
