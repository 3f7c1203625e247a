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
    """Notes what it is asked for."""

    def __init__(self):
        self.asked = []

    def get_call_type(self, context, args, kws):
        self.asked.append(args)
        return args


def test_numbers_and_arrays_are_looked_up_once_and_all_else_each_time():
    remembering = Operator()
    _remember(remembering)
    numbers, array = (types.int64, types.float32), (VECTOR, types.int64)
    text, word = (types.int64, types.unicode_type), {"x": types.int64}
    for _ in range(2):
        for args, kws in (numbers, {}), (array, {}), (text, {}), (numbers, word):
            assert remembering.get_call_type(CONTEXT, args, kws) == args
    assert remembering.asked == [numbers, array, text, numbers, text, numbers]
    remembering.get_call_type("another", numbers, {})
    assert len(remembering.asked) == 7


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
