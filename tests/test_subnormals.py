"""Numbers below the normal ones: taken for 0 while a network trains, and nowhere else."""

import contextlib
import platform
from typing import NamedTuple

import numpy as np
import pytest

from fastgd import MLPClassifier
from fastgd.kernels.epoch import leave_loop
from fastgd.kernels.plan import Plan
from fastgd.kernels.subnormals import FLUSHED
from fastgd.optimizers import SGD

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="other processors are left as they are"
)

TINY = np.finfo(np.float32).tiny

X = np.eye(8, dtype=np.float32)
Y = np.arange(8) % 2


class Halving(NamedTuple):
    """Halves what it remembers in each step, as averages of a gradient of 0 do."""

    learning_rate: float = 0.1
    state = ("average",)

    def step(self, w, g, state, scalars, t, learning_rate):
        average = state[0]
        for i in range(w.size):
            average[i] = np.float32(1.0) if t == 1 else np.float32(0.5) * average[i]


class Failing(NamedTuple):
    learning_rate: float = 0.1

    def step(self, w, g, state, scalars, t, learning_rate):
        raise ValueError("the rule failed")


def product_is_subnormal():
    """Whether this thread computes with subnormal numbers."""
    return bool((np.full(64, TINY) * np.float32(0.5) > 0).all())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_averages_do_not_stay_subnormal():
    """Two to the minus 150 is less than the smallest number, two to the minus 140 is subnormal."""
    clf = MLPClassifier((4,), solver=Halving(), batch_size=8, max_iter=141, n_iter_no_change=1000)
    clf.fit(X, Y)
    assert (clf._optimizer.state == 0).all()
    clf.set_params(max_iter=101).fit(X, Y)
    np.testing.assert_array_equal(clf._optimizer.state, np.float32(2.0**-100))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_thread_that_flushes_by_itself_goes_on_to():
    """A library may have told the processor so, on behalf of the user."""
    leave = Plan(np.float32).set(control=FLUSHED | 0x1F80)
    leave_loop(leave.record)
    try:
        assert not product_is_subnormal()
        for solver in SGD(), Failing():
            with contextlib.suppress(ValueError):
                MLPClassifier((4,), solver=solver, max_iter=2).fit(X, Y)
            assert not product_is_subnormal()
    finally:
        leave_loop(leave.set(control=0x1F80).record)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_thread_is_as_before():
    assert product_is_subnormal()
    MLPClassifier((4,), solver=SGD(), max_iter=2).fit(X, Y)
    assert product_is_subnormal()
    with pytest.raises(ValueError, match="the rule failed"):
        MLPClassifier((4,), solver=Failing(), max_iter=2).fit(X, Y)
    assert product_is_subnormal()
