"""The shuffle in compiled code: what NumPy's own does, and what it leaves behind."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.random import MT19937, PCG64, SFC64, Philox, RandomState

from fastgd import MLPRegressor
from fastgd.kernels import shuffle as module
from fastgd.kernels.shuffle import DRAWS, shuffle
from fastgd.neural_network import _base

SEEDS = st.integers(0, 2**32 - 1)


def check(theirs, ours, n):
    expected, order = np.arange(n), np.arange(n)
    for _ in range(3):
        theirs.shuffle(expected)
        shuffle(ours, order)
        np.testing.assert_array_equal(order, expected)
    # What is drawn next is the same, too; 32 bits may be left of a draw of 64.
    np.testing.assert_array_equal(ours.randint(7, size=5), theirs.randint(7, size=5))
    np.testing.assert_array_equal(ours.normal(size=3), theirs.normal(size=3))


@settings(deadline=None)  # the first call compiles
@given(SEEDS, st.integers(0, 5_000))
@example(0, 0)
@example(0, 1)
@example(0, 2)
@example(1, DRAWS)
@example(1, DRAWS + 1)
@example(1, 2 * DRAWS)
@example(1, 4096)
@example(1, 4097)
@example(1, 4098)
def test_the_order_is_numpys(seed, n):
    check(RandomState(seed), RandomState(seed), n)


@pytest.mark.parametrize("kind", [MT19937, PCG64, Philox, SFC64])
def test_any_generator_of_numpys(kind):
    check(RandomState(kind(3)), RandomState(kind(3)), 1_001)


def test_many_rows():
    check(RandomState(5), RandomState(5), 200_003)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("random_state", [3, RandomState(3)])
def test_which_generators_it_takes_from(random_state, monkeypatch):
    """One that the user holds is locked, as NumPy does it: another thread may draw from it."""
    taken = []
    monkeypatch.setattr(_base, "shuffle", lambda generator, order: taken.append(order.size))
    X = np.ones((30, 2))
    net = MLPRegressor(hidden_layer_sizes=(2,), max_iter=2, random_state=random_state)
    net.fit(X, X[:, 0])
    assert taken == ([30, 30] if random_state == 3 else [])


def test_more_rows_than_32_bits_can_count_are_left_to_numpy(monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 10)
    monkeypatch.setattr(module, "_shuffle", None)
    check(RandomState(6), RandomState(6), 11)
