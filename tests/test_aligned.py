"""Arrays that begin at a cache line, and are otherwise as any other."""

import pickle

import numpy as np
import pytest

from fastgd import MLPClassifier
from fastgd.kernels.aligned import (
    ALIGNMENT,
    CACHE_LINE,
    GRADIENT,
    PAGE,
    PARAMETERS,
    STATE,
    aligned_copy,
    aligned_empty,
    aligned_zeros,
)
from fastgd.neural_network.epochs import EpochRunner


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("n", [0, 1, 7, 1000, 300_000])
def test_they_begin_at_a_cache_line(n, dtype):
    for array in (
        aligned_empty(n, dtype),
        aligned_zeros(n, dtype),
        aligned_copy(np.ones(n), dtype),
    ):
        assert array.shape == (n,)
        assert array.dtype == dtype
        assert array.ctypes.data % CACHE_LINE == 0
        assert array.flags.c_contiguous
        assert array.flags.writeable
    assert (aligned_zeros(n, dtype) == 0).all()
    np.testing.assert_array_equal(aligned_copy(np.arange(n), dtype), np.arange(n))


@pytest.mark.parametrize("place", [PARAMETERS, GRADIENT, STATE])
def test_they_begin_where_they_shall_in_a_page(place):
    for n in (1, 1000, 300_000):
        for array in (
            aligned_empty(n, np.float32, place),
            aligned_zeros(n, np.float64, place),
            aligned_copy(np.ones(n), np.float32, place),
        ):
            assert array.shape == (n,)
            assert array.ctypes.data % PAGE == place


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("goes_on", [False, True])
def test_what_a_step_walks_through_begins_apart(goes_on, monkeypatch):
    """By chance alone, every tenth fit of a small network took up to three times as long."""
    plans = []
    run = EpochRunner.run

    def watched(self, *args):
        run(self, *args)
        plans.append(self._plans[0])

    monkeypatch.setattr(EpochRunner, "run", watched)
    X = np.random.default_rng(0).normal(size=(50, 3))
    clf = MLPClassifier((7,), max_iter=1, warm_start=True).fit(X, X[:, 0] > 0)
    if goes_on:
        clf.fit(X, X[:, 0] > 0)
    places = {name: plans[-1].record[name][0] % PAGE for name in ("w", "piece", "state")}
    assert places == {"w": PARAMETERS, "piece": GRADIENT, "state": STATE}


def test_nobody_else_is_on_their_lines():
    """What one thread writes there takes them from all others."""
    ours, others = [], []
    for _ in range(100):
        others.append(np.empty(3))
        ours.append(aligned_empty(3, np.float64))

    def lines(array):
        first = array.ctypes.data
        return {first // ALIGNMENT, (first + array.nbytes - 1) // ALIGNMENT}

    assert len(set().union(*map(lines, ours))) == len(ours)
    assert not set().union(*map(lines, ours)) & set().union(*map(lines, others))


def test_views_know_their_base():
    """By which the parameters behind ``coefs_`` are found again."""
    array = aligned_zeros(12, np.float32)
    assert array[2:8].reshape(2, 3).base is array
    copy = pickle.loads(pickle.dumps(array[2:8]))
    np.testing.assert_array_equal(copy, array[2:8])
