"""What Numba remembers of operators is what it would look up."""

import itertools
import operator
import subprocess
import sys

import numba
import pytest
from numba.core import types, utils
from numba.core.errors import TypingError
from numba.core.registry import cpu_target

from fastgd._jit.operators import OPERATORS, _remember, remember_operators

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


def answer(look_up, function, args):
    """A signature and who implements it, or the kind of error where there is none."""
    try:
        signature = look_up(function, CONTEXT, args, {})
    except (TypingError, AttributeError) as error:
        return type(error)
    return signature and (signature, function.get_impl_key(signature))


def call_type(function, *asked):
    return function.get_call_type(*asked)


@pytest.mark.parametrize("name", sorted(OPERATORS - {operator.imatmul}, key=str), ids=str)
def test_what_is_remembered_is_what_is_looked_up(name):
    cpu_target.target_context.refresh()
    remember_operators()
    function = CONTEXT.resolve_value_type(name)
    for args in ARGUMENTS[N_ARGUMENTS.get(name, 2)]:
        expected = answer(types.Function.get_call_type, function, args)
        for _ in range(2):
            assert answer(call_type, function, args) == expected


class Operator:
    """Notes what it is asked for; what it makes of ``in_python`` is not Numba's own."""

    typing_key, in_python = "operator", (types.int64, types.int64)

    def __init__(self):
        self.asked = []

    def get_call_type(self, context, args, kws):
        self.asked.append(args)
        return None if args == (types.boolean,) else args

    def get_impl_key(self, signature):
        return "compiled" if signature == self.in_python else self.typing_key


def test_what_is_remembered_is_looked_up_once_and_all_else_each_time():
    operator = Operator()
    _remember(operator)
    numbers, array, nothing = (types.int64, types.float32), (VECTOR, types.int64), (types.boolean,)
    text, word = (types.int64, types.unicode_type), {"x": types.int64}
    for args, n_times in (numbers, 1), (array, 1), (text, 2), (operator.in_python, 2), (nothing, 2):
        before = len(operator.asked)
        for _ in range(2):
            assert operator.get_call_type(CONTEXT, args, {}) == (None if args == nothing else args)
        assert operator.asked[before:] == [args] * n_times
    for context, kws in (CONTEXT, word), ("another", {}):
        before = len(operator.asked)
        operator.get_call_type(context, numbers, kws)
        assert len(operator.asked) == before + 1


def test_who_compiles_remembers():
    code = """
import operator
from numba.core.registry import cpu_target
from fastgd._jit import njit

twice = njit(lambda x: x + x, entry=True)
print(twice(2), "get_call_type" in vars(cpu_target.typing_context.resolve_value_type(operator.add)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "4 True\n"


def test_other_peoples_operators_are_what_they_were():
    @numba.njit
    def both(a, b):
        return a + b, a == b, a[0]

    remember_operators()
    assert both("ab", "cd") == ("abcd", False, "a")
    assert both((1, 2.0), (3,)) == ((1, 2.0, 3), False, 1)
    with pytest.raises(TypingError):
        both(1, "a")
