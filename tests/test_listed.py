"""Sums of listed rows, and the entries of sparse batches listed by features."""

from contextlib import nullcontext

import numba
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neural_network import MLPClassifier as SklearnMLPClassifier

from fastgd import MLPClassifier
from fastgd.kernels import listed, samples
from fastgd.kernels.aligned import address
from fastgd.kernels.listed import LISTS, room_for_lists, sum_listed
from fastgd.kernels.plan import Plan, int64s
from fastgd.optimizers import Optimizer
from threads import several_threads

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@numba.njit
def add_up(indices, values, rows, h, kept, source, target):
    sum_listed(indices, values, rows, h, kept, source, target)


@settings(deadline=None)
@given(
    h=st.integers(1, 150),
    n=st.integers(0, 12),
    dtype=st.sampled_from([np.float32, np.float64]),
    index=st.sampled_from([np.int32, np.int64]),
    kept=st.sampled_from([0.0, 1.0, 0.3]),
    in_place=st.booleans(),
    seed=st.integers(0, 99),
)
def test_sum_of_listed_rows(h, n, dtype, index, kept, in_place, seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(9, h)).astype(dtype)
    indices = rng.integers(0, 9, n).astype(index)
    values = rng.normal(size=n).astype(dtype)
    # Beyond the last column lies what must stay.
    source = rng.normal(size=h + 1).astype(dtype)
    expected = source.copy()
    expected[:h] = dtype(kept) * source[:h] + values @ rows[indices]
    target = source if in_place else np.append(np.full(h, np.nan, dtype), source[h])
    if kept == 0.0:
        source[:h] = np.nan
    add_up(indices, values, address(rows), h, kept, address(source), address(target))
    tolerance = 50 * np.finfo(dtype).eps
    np.testing.assert_allclose(target, expected, rtol=tolerance, atol=tolerance)


def skewed(rng, n_samples, n_features, dtype):
    """Samples with no entries and with many; explicit zeros, duplicates, indices in any order."""
    lengths = rng.permutation(np.minimum(rng.geometric(0.1, n_samples) - 1, n_features))
    indptr = np.append(0, np.cumsum(lengths))
    indices = rng.integers(0, n_features, indptr[-1])
    data = rng.normal(size=indptr[-1]).astype(dtype)
    data[::7] = 0
    return scipy.sparse.csr_array((data, indices, indptr), shape=(n_samples, n_features))


HIDDEN = (100,)


HIDDEN = (100,)


def with_and_without_lists(compute):
    """What ``compute()`` gives with lists, however long the rows are, and without."""
    for most in (2**21, 0):
        rooms = []

        def room(*args, rooms=rooms):
            rooms.append(room_for_lists(*args))
            return rooms[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(listed, "LONGEST_ROWS", 10**6)
            patch.setattr(listed, "MOST_ENTRIES", most)
            patch.setattr(samples, "room_for_lists", room)
            yield compute()
        assert rooms
        assert any(room and room["listed_batch"][0] > 0 for room in rooms) == (most > 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("batch_size", [1, 20, 70, 90])
@pytest.mark.parametrize("team", [nullcontext, several_threads])
def test_lists_change_no_bit(dtype, index, batch_size, team):
    """Nor do they stay those of another batch: 90 is the whole epoch, each in another order."""
    rng = np.random.default_rng(0)
    X = skewed(rng, 90, 333, dtype)
    X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
    y = rng.integers(0, 3, 90)

    def fitted():
        model = MLPClassifier(HIDDEN, alpha=0.1, batch_size=batch_size, max_iter=3, random_state=0)
        with team():
            return model.fit(X, y)

    listed, searched = with_and_without_lists(fitted)
    for a, b in zip(listed.coefs_, searched.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
    assert listed.loss_curve_ == searched.loss_curve_


@pytest.mark.parametrize("n_features", [31, 32, 33, 64, 65])
@pytest.mark.parametrize("team", [nullcontext, several_threads])
def test_lists_change_no_bit_of_the_objective(n_features, team):
    rng = np.random.default_rng(4)
    X = skewed(rng, 50, n_features, np.float64)
    y = np.arange(50) % 3
    model = MLPClassifier((130,), random_state=0, max_iter=1).fit(X, y)

    def derivatives():
        with team():
            objective = model.objective(X, y)
            w = objective.x0
            v = np.linspace(-1, 1, w.size)
            return [
                objective.grad(w), objective.hessp(w, v), objective.grad(w + 0.01 * v),
                objective.gauss_newton_product(w, v),
            ]  # fmt: skip

    listed, searched = with_and_without_lists(derivatives)
    for a, b in zip(listed, searched, strict=True):
        np.testing.assert_array_equal(a, b)


def test_lists_are_new_in_each_call():
    """Somebody may have changed X."""
    X = skewed(np.random.default_rng(5), 50, 400, np.float64)
    X.sum_duplicates()  # or it would be copied
    y = np.arange(50) % 3
    model = MLPClassifier((32,), random_state=0, max_iter=1).fit(X, y)
    objective = model.objective(X, y)
    w = objective.x0
    before = objective.grad(w)
    X.data *= -2
    after = objective.grad(w + 0.1)
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(after, model.objective(X, y).grad(w + 0.1))


@numba.njit
def list_anew(plans, n_rows):
    plan = plans[0]
    listed.forget_lists(plan)
    list_by_features(plan, 0, n_rows)


list_by_features = listed.lists_of(int64s)


def test_nothing_else_is_listed_whatever_becomes_of_x():
    data, indices, indptr = np.ones(6), np.array([0, 40, 99, 7, 33, 2]), np.array([0, 2, 4, 6])
    room = room_for_lists(indptr, 100, 3, 2, np.float64)
    plan = Plan(np.float64).set(
        values=data, indices=indices, indptr=indptr, n_features=100, rows=3, **room
    )
    list_anew(plan.record, 3)
    assert room["listed_starts"][:5].tolist() == [0, 3, 5, 5, 6]
    assert room["listed_features"].tolist() == [0, 7, 2, 40, 33, 99]
    assert room["listed_rows"].tolist() == [0, 1, 2, 0, 2, 1]
    indices[:2] = 10**6, -1  # features that there are not
    list_anew(plan.record, 3)
    assert room["listed_starts"][:5].tolist() == [0, 2, 3, 3, 4]
    indices[:] = 99
    indptr[:] = 0, 6, 6, 6
    indptr[2] = 0  # the first row, and the third once more
    list_anew(plan.record, 3)
    assert room["listed_features"].tolist() == [99] * 6
    assert set(room["listed_rows"]) <= {0, 1, 2}


def test_there_is_room_for_the_largest_batch_and_no_more(monkeypatch):
    X = skewed(np.random.default_rng(1), 50, 200, np.float32)
    lengths = np.sort(np.diff(X.indptr))
    for rows in (1, 7, 50, 60):
        room = room_for_lists(X.indptr, 200, rows, 9, np.float32)
        assert room["listed_values"].size == lengths[-rows:].sum()
        assert room["n_listed"] == room["listed_rows"].size == room["listed_features"].size
    assert not room_for_lists(X.indptr, 200, 7, 1, np.float32)  # a chunk has nobody to share with
    assert not room_for_lists(X.indptr * 100, 200, 7, 9, np.float32)  # rows are long
    monkeypatch.setattr(listed, "MOST_ENTRIES", int(lengths[-7:].sum()) - 1)
    assert not room_for_lists(X.indptr, 200, 7, 9, np.float32)
    assert room_for_lists(X.indptr, 200, 6, 9, np.float32)


def test_sparse_batches_train_as_in_scikit_learn():
    X = skewed(np.random.default_rng(2), 200, 400, np.float64)
    X.sum_duplicates()
    y = np.arange(200) % 3
    settings = {"hidden_layer_sizes": (32,), "max_iter": 5, "random_state": 0, "batch_size": 64}
    ours = MLPClassifier(**settings).fit(X, y)
    theirs = SklearnMLPClassifier(**settings).fit(X, y)
    for a, b in zip(ours.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)


def test_lists_are_not_those_of_other_samples():
    """``partial_fit`` goes on with the plan of its last call, whose rows have the same numbers."""
    rng = np.random.default_rng(3)
    y = np.arange(30) % 2
    batches = [skewed(rng, 30, 500, np.float64) for _ in range(3)]
    settings = {"hidden_layer_sizes": (32,), "random_state": 0, "batch_size": 30, "shuffle": False}
    model, fresh = MLPClassifier(**settings), MLPClassifier(**settings)
    for X in batches:
        model.partial_fit(X, y, classes=[0, 1])
        plan = model._optimizer._kept_plan[0][1]
        assert all(plan[name] is None for name in LISTS)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Optimizer, "keep_plan", lambda self, kind, plan: None)
            fresh.partial_fit(X, y, classes=[0, 1])
    for a, b in zip(model.coefs_, fresh.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
