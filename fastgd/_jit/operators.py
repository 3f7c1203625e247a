"""What operators make of numbers is looked up once, while our code is compiled.

To find that ``a + b`` of two float32 is a float32 Numba tries all that ``+`` may mean, dates and
strings among them, and writes down why each of them is not meant; for each ``+`` in the code, and
again when it emits code for it.  That is a sixth of the time to compile.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator
from typing import Any

from numba.core import types, utils

OPERATORS = {
    *utils.BINOPS_TO_OPERATORS.values(),
    *utils.INPLACE_BINOPS_TO_OPERATORS.values(),
    *utils.UNARY_BUITINS_TO_OPERATORS.values(),
    operator.getitem,
    operator.setitem,
    bool,
}

# Other types, such as a user's own, may be given more meanings later.
REMEMBERED = types.Number | types.Boolean | types.Array

_look_up = types.Function.get_call_type
_found: dict[Any, Any] = {}


@contextlib.contextmanager
def operators_remembered() -> Iterator[None]:
    """Within the block Numba remembers what operators make of numbers, and of arrays.

    Numba compiles in one thread at a time, so nobody else's code is compiled meanwhile.
    """
    if "get_call_type" in vars(types.Function):
        yield  # within another such block
        return
    types.Function.get_call_type = _get_call_type  # type: ignore[method-assign]
    try:
        yield
    finally:
        del types.Function.get_call_type


def _get_call_type(self: Any, context: Any, args: Any, kws: Any) -> Any:
    may_remember = self.typing_key in OPERATORS and not kws
    if not (may_remember and all(isinstance(kind, REMEMBERED) for kind in args)):
        return _look_up(self, context, args, kws)
    key = (self._code, context, *args)
    signature = _found.get(key)
    if signature is not None:
        # As a look-up does, for who asks next by which code it is done.
        self._impl_keys[signature.args] = self.typing_key
        return signature
    signature = _look_up(self, context, args, kws)
    # What is written in Python is compiled for each set of flags anew, while it is looked up.
    if signature is not None and self.get_impl_key(signature) == self.typing_key:
        _found[key] = signature
    return signature
