"""What operators make of numbers is looked up once.

To find that ``a + b`` of two float32 is a float32 Numba tries all that ``+`` may mean, dates and
strings among it, and writes down why each of them is not meant; for each ``+`` in the code, and
again when it emits code for it.  That is a sixth of the time to compile.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from typing import Any

from numba.core import types, utils
from numba.core.registry import cpu_target

OPERATORS = {
    *utils.BINOPS_TO_OPERATORS.values(),
    *utils.INPLACE_BINOPS_TO_OPERATORS.values(),
    *utils.UNARY_BUITINS_TO_OPERATORS.values(),
    operator.getitem,
    operator.setitem,
    bool,
}

# Of other types what has been found once need not be all that there is.
REMEMBERED = types.Number | types.Boolean | types.Array


@functools.cache
def remember_operators() -> None:
    """Let Numba remember what operators make of numbers, and of arrays."""
    for known in OPERATORS:
        with contextlib.suppress(ValueError):  # one that compiled code does not have
            _remember(cpu_target.typing_context.resolve_value_type(known))


def _remember(function: Any) -> None:
    look_up = function.get_call_type
    found: dict[Any, Any] = {}

    def get_call_type(context: Any, args: Any, kws: Any) -> Any:
        if kws or not all(isinstance(kind, REMEMBERED) for kind in args):
            return look_up(context, args, kws)
        key = (context, *args)
        if key in found:
            return found[key]
        signature = look_up(context, args, kws)
        # What is written in Python is compiled for each set of flags anew, while it is looked up.
        if signature is not None and function.get_impl_key(signature) == function.typing_key:
            found[key] = signature
        return signature

    function.get_call_type = get_call_type
