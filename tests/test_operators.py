"""What Numba remembers of operators is what it would look up, and others do not notice."""

import contextlib
import itertools
import operator
import subprocess
import sys
from types import SimpleNamespace

import pytest
from numba.core import types, utils
from numba.core.errors import TypingError
from numba.core.registry import cpu_target

from fastgd._jit import operators
from fastgd._jit.operators import OPERATORS, operators_remembered

CONTEXT = cpu_target.typing_context
NUMBERS = (types.boolean, types.int64, types.float32, types.float64, types.literal(3))
VECTOR, MATRIX = types.Array(types.float32, 1, "C"), types.Array(types.float64, 2, "F")
ARRAYS = (VECTOR, MATRIX)
ARGUMENTS = {
    1: [(kind,) for kind in (*NUMBERS, *ARRAYS)],
    2: list(itertools.product((*NUMBERS, *ARRAYS), repeat=2)),
    3: list(itertools.product(ARRAYS, (types.int64, types.literal(0), VECTOR), NUMBERS)),
}
N_ARGUMENTS = dict.fromkeys((*utils.UNARY_BUITINS_TO_OPERATORS.values(), bool), 1)
N_ARGUMENTS[operator.setitem] = 3


def answer(function, args):
    """A signature and who implements it, or the kind of error where there is none."""
    try:
        signature = function.get_call_type(CONTEXT, args, {})
    except (TypingError, AttributeError) as error:
        return type(error)
    return signature and (signature, function.get_impl_key(signature))


@pytest.mark.parametrize("name", sorted(OPERATORS - {operator.imatmul}, key=str), ids=str)
def test_what_is_remembered_is_what_is_looked_up(name):
    cpu_target.target_context.refresh()
    function = CONTEXT.resolve_value_type(name)
    for args in ARGUMENTS[N_ARGUMENTS.get(name, 2)]:
        expected = answer(function, args)
        with operators_remembered():
            assert answer(function, args) == expected
            assert answer(function, args) == expected


def test_what_is_remembered_is_looked_up_once_and_all_else_each_time(monkeypatch):
    numbers, array, nothing = (types.int64, types.float32), (VECTOR, types.int64), (types.boolean,)
    text, in_python = (types.int64, types.unicode_type), (types.int64, types.int64)
    asked = []

    def look_up(self, context, args, kws):
        asked.append(args)
        return None if args == nothing else SimpleNamespace(args=args)

    def function(code, key):
        def get_impl_key(signature):
            return "compiled" if signature.args == in_python else key

        return SimpleNamespace(_code=code, typing_key=key, get_impl_key=get_impl_key, _impl_keys={})

    monkeypatch.setattr(operators, "_look_up", look_up)
    monkeypatch.setattr(operators, "_found", {})
    add = function(1, operator.add)
    for args, n_times in (numbers, 1), (array, 1), (text, 2), (in_python, 2), (nothing, 2):
        asked.clear()
        for _ in range(2):
            signature = operators._get_call_type(add, CONTEXT, args, {})
            assert signature is None if args == nothing else signature.args == args
        assert asked == [args] * n_times
    # Who has been told something else meanwhile does not stay with it.
    add._impl_keys[numbers] = "another"
    operators._get_call_type(add, CONTEXT, numbers, {})
    assert add._impl_keys[numbers] is operator.add
    for other in (
        (add, "another", numbers, {}),
        (add, CONTEXT, numbers, {"x": types.int64}),
        (function(2, operator.add), CONTEXT, numbers, {}),
        *[(function(1, range), CONTEXT, numbers, {})] * 2,
    ):
        asked.clear()
        operators._get_call_type(*other)
        assert asked == [numbers]


def test_numba_is_as_before_after_a_block():
    before = types.Function.get_call_type
    with contextlib.suppress(ValueError), operators_remembered():
        with operators_remembered():
            assert types.Function.get_call_type is operators._get_call_type
        assert types.Function.get_call_type is operators._get_call_type
        raise ValueError
    assert types.Function.get_call_type is before is types.BaseFunction.get_call_type


OF_A_USER = """
import operator

import numba
import numpy as np

from fastgd._jit import njit, operators

njit(lambda x: x + x, entry=True)(2)
print(len(operators._found) > 0)


@numba.njit(cache=True)
def fold(f, x):
    total = x[0]
    for i in range(1, x.size):
        total = f(total, x[i])
    return total


@numba.njit
def total(x):
    return fold(operator.add, x)


print(total(np.arange(4.0)), numba.njit(lambda a, b: (a + b, a == b))("ab", "cd"))
"""


def test_a_users_functions_are_compiled_and_kept_after_ours(tmp_path):
    (tmp_path / "of_a_user.py").write_text(OF_A_USER)
    for _ in range(2):  # the second time from disk
        done = subprocess.run(
            [sys.executable, tmp_path / "of_a_user.py"], capture_output=True, text=True, check=True
        )
        assert done.stdout == "True\n6.0 ('abcd', False)\n"
