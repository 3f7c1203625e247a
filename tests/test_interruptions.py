"""Ctrl-C while something is compiled: it comes when that is done, and the process goes on."""

import signal
import threading
from typing import NamedTuple

import numpy as np
import pytest
from numba.core.compiler import CompilerBase

from fastgd import MLPClassifier
from fastgd._jit.interruptions import uninterrupted
from fastgd.neural_network import TrainingInterrupted
from fastgd.optimizers import Optimizer


def test_it_waits_for_the_end_of_the_outermost_block():
    done = []

    @uninterrupted()
    def run():
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("inner")
        done.append("outer")

    with pytest.raises(KeyboardInterrupt):
        run()
    assert done == ["inner", "outer"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_errors_come_through():
    with pytest.raises(ZeroDivisionError), uninterrupted():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_who_does_not_want_to_hear_of_it_does_not(handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        with uninterrupted():
            assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_have_no_signals():
    failures = []

    def run():
        try:
            with uninterrupted():
                pass
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not failures


def press_while_compiling(monkeypatch):
    """Ctrl-C in the midst of the next compilation."""
    usual = CompilerBase.compile_extra

    def compile_extra(self, function):
        monkeypatch.undo()
        signal.raise_signal(signal.SIGINT)
        return usual(self, function)

    monkeypatch.setattr(CompilerBase, "compile_extra", compile_extra)


def rule():
    """Of a class that nobody has compiled yet."""

    class Rule(NamedTuple):
        learning_rate: float = 0.5

        def step(self, w, g, state, scalars, t, learning_rate):
            for i in range(w.size):
                w[i] -= learning_rate * g[i]

    return Rule()


def test_an_update_after_one_that_was_interrupted(monkeypatch):
    w = np.ones(3)
    optimizer = Optimizer(rule(), w)
    press_while_compiling(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        optimizer.update(w, np.ones(3))
    np.testing.assert_array_equal(w, np.ones(3))
    optimizer.update(w, np.ones(3))
    np.testing.assert_array_equal(w, np.full(3, 0.5))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_fit_after_one_that_was_interrupted(digits, monkeypatch):
    clf = MLPClassifier((4,), solver=rule(), max_iter=2, random_state=0)
    MLPClassifier((4,), max_iter=1).fit(*digits)  # all but the rule is compiled now
    press_while_compiling(monkeypatch)
    with pytest.warns(TrainingInterrupted):
        clf.fit(*digits)
    assert clf.fit(*digits).n_iter_ == 2
