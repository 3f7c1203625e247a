"""Calls of ``partial_fit`` go on with the buffers of the last one, and change nothing by it."""

import copy
import gc
import itertools
import pickle
import weakref

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgd import MLPClassifier, MLPRegressor
from fastgd.kernels import samples
from fastgd.neural_network import epochs
from fastgd.optimizers import Optimizer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 6))
NUMBERS = X[:, 0] - X[:, 1] + RNG.normal(size=60)
CLASSES = np.arange(60) % 3


def regressor(**parameters):
    return MLPRegressor(**{"hidden_layer_sizes": (5, 4), "random_state": 0} | parameters)


def classifier(**parameters):
    return MLPClassifier(**{"hidden_layer_sizes": (5, 4), "random_state": 0} | parameters)


CHOICES = {
    "n": [1, 16, 20, 60],
    "kind": ["dense", "int32", "int64", "float32", "columns"],
    "weighted": [False, True],
    "batch_size": ["auto", 7, 16],
    "alpha": [0.0, 0.1],
    "shuffle": [False, True],
    "clip_norm": [None, 0.1],
    "dropout": [0.0, 0.3],
    "activation": ["relu", "silu"],
    "loss": ["squared_error", "huber"],
    "solver": ["adam", "sgd"],
}


@st.composite
def sequences(draw):
    """Calls, each of which differs from the one before in little."""
    call = {name: draw(st.sampled_from(values)) for name, values in CHOICES.items()}
    calls = [call]
    for _ in range(draw(st.integers(1, 4))):
        changed = draw(st.lists(st.sampled_from(list(CHOICES)), max_size=2))
        call = call | {name: draw(st.sampled_from(CHOICES[name])) for name in changed}
        calls.append(call)
    return calls


def called(model, call):
    """The model after a call of ``partial_fit``."""
    call = dict(call)
    n, kind, weighted = (call.pop(name) for name in ("n", "kind", "weighted"))
    rows, targets = X[:n], NUMBERS[:n]
    if kind.startswith("int"):
        rows = scipy.sparse.csr_matrix(rows)
        rows.indices, rows.indptr = rows.indices.astype(kind), rows.indptr.astype(kind)
    elif kind == "float32":
        rows = rows.astype(kind)
    elif kind == "columns":
        rows, targets = np.asfortranarray(rows), targets.reshape(-1, 1).ravel().tolist()
    weight = np.linspace(0.5, 2.0, n) if weighted else None
    return model.set_params(**call).partial_fit(rows, targets, sample_weight=weight)


CHANGES = [(name, *pair) for name in CHOICES for pair in itertools.permutations(CHOICES[name], 2)]


@pytest.mark.filterwarnings("ignore:Got `batch_size`")
@pytest.mark.parametrize(("name", "before", "after"), CHANGES)
def test_one_thing_differs_from_the_last_call(name, before, after):
    call = {name: values[-1] for name, values in CHOICES.items()} | {"kind": "dense", "n": 60}
    compare_with_new_buffers([call | {name: before}, call | {name: after}])


@settings(max_examples=100, deadline=None)
@given(sequences())
@pytest.mark.filterwarnings("ignore:Got `batch_size`")
def test_buffers_of_before_change_nothing(calls):
    compare_with_new_buffers(calls)


def compare_with_new_buffers(calls):
    """The same calls with the buffers of the last call, and each with its own."""
    model, fresh = regressor(), regressor()
    for call in calls:
        called(model, call)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Optimizer, "keep_plan", lambda self, kind, plan: None)
            called(fresh, call)
        for ours, expected in zip(model.coefs_, fresh.coefs_, strict=True):
            np.testing.assert_array_equal(ours, expected)
    assert model.loss_curve_ == fresh.loss_curve_


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_buffers_are_made_once(monkeypatch):
    made = []
    network_plan = samples.network_plan

    def counted(*args, **kwargs):
        made.append(args)
        return network_plan(*args, **kwargs)

    monkeypatch.setattr(samples, "network_plan", counted)
    model = classifier()
    for _ in range(4):
        model.partial_fit(X, CLASSES, classes=range(3))
    assert len(made) == 1
    model.partial_fit(X[:40], CLASSES[:40])  # another number of rows a batch
    assert len(made) == 2
    model.fit(X, CLASSES)
    assert not model._optimizer._kept_plan  # a fit keeps no buffers


def test_samples_are_let_go():
    """They may be all that fits into memory."""
    model = regressor(batch_size=20)
    seen = []
    for _ in range(2):
        rows, targets, weight = X.copy(), NUMBERS.copy(), np.ones(60)
        seen += [weakref.ref(a) for a in (rows, targets, weight)]
        model.partial_fit(rows, targets, sample_weight=weight)
        del rows, targets, weight
        gc.collect()
        assert not any(reference() is not None for reference in seen)


def test_sparse_samples_are_let_go():
    model = regressor(batch_size=20)
    rows = scipy.sparse.csr_matrix(X)
    seen = [weakref.ref(a) for a in (rows.data, rows.indices, rows.indptr)]
    model.partial_fit(rows, NUMBERS)
    del rows
    gc.collect()
    assert not any(reference() is not None for reference in seen)


def test_who_goes_on_has_the_buffers_alone():
    """Two copies of one optimizer, or two threads of the user's, would write into the same."""
    model = regressor().partial_fit(X, NUMBERS)
    optimizer = model._optimizer
    plan = optimizer._kept_plan[0][1]
    fresh = optimizer.successor(optimizer.rule, X.ravel()[:64].copy(), optimizer.memory.chunks)
    assert fresh is not None
    assert optimizer.take_plan() == (None, None)
    assert fresh.take_plan()[1] is plan
    assert fresh.take_plan() == (None, None)


def test_buffers_of_long_batches_are_not_kept(monkeypatch):
    """They may be large; to make them takes no time beside that of a batch."""
    monkeypatch.setattr(epochs, "LEAST_TO_START_A_THREAD", 1000)
    assert not regressor().partial_fit(X, NUMBERS)._optimizer._kept_plan


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_has_buffers_of_its_own(copied):
    model = regressor().partial_fit(X, NUMBERS)
    other, expected = copied(model), copied(model)
    model.partial_fit(X, NUMBERS)
    other.partial_fit(X, -NUMBERS)
    assert other._optimizer._kept_plan[0][1] is not model._optimizer._kept_plan[0][1]
    np.testing.assert_array_equal(expected.partial_fit(X, NUMBERS).coefs_[0], model.coefs_[0])


def with_(value):
    rows = X.copy()
    rows[3, 2] = value
    return rows


BAD = {
    "NaN": (with_(np.nan), NUMBERS, "contains NaN"),
    "infinity": (with_(np.inf), NUMBERS, "contains infinity"),
    "a feature less": (X[:, :5].copy(), NUMBERS, "5 features, but .* 6 features"),
    "no matrix": (X[0], NUMBERS, "Expected 2D array"),
    "no sample": (X[:0], NUMBERS[:0], "0 sample"),
    "other lengths": (X, NUMBERS[:-1], "inconsistent numbers of samples"),
    "complex numbers": (X.astype(complex), NUMBERS, "Complex data not supported"),
    "words": (X.astype(str).astype(object) + "x", NUMBERS, "could not convert"),
    "NaN in y": (X, np.where(NUMBERS > 1, np.nan, NUMBERS), "y contains NaN"),
    "words in y": (X, np.array(["a"] * 60), "could not convert|y must be numbers"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_later_call_complains_as_the_first_does(name):
    rows, targets, message = BAD[name]
    model = regressor().partial_fit(X, NUMBERS)
    before = [w.copy() for w in model.coefs_]
    with pytest.raises(ValueError, match=message) as later:
        model.partial_fit(rows, targets)
    if "features" not in message:
        with pytest.raises(ValueError, match=message) as first:
            regressor().partial_fit(rows, targets)
        assert str(later.value) == str(first.value)
    for ours, expected in zip(model.coefs_, before, strict=True):
        np.testing.assert_array_equal(ours, expected)
    model.partial_fit(X, NUMBERS)


@pytest.mark.parametrize(
    "kind", ["read-only", "broadcast", "large", "float32", "columns", "not aligned", "int"]
)
def test_a_later_call_takes_what_the_first_takes(kind):
    rows = X.copy()
    if kind == "read-only":
        rows.flags.writeable = False
    elif kind == "broadcast":  # NumPy says that it is writeable, and its buffer that it is not
        rows = np.broadcast_arrays(rows, np.zeros((1, 1)))[0]
    elif kind == "large":  # the sum is infinite
        rows = np.full(rows.shape, 1e38, np.float32)
    elif kind == "columns":
        rows = np.asfortranarray(rows)
    elif kind == "not aligned":
        rows = np.frombuffer(b"x" + rows.tobytes(), np.uint8)[1:].view(np.float64).reshape(60, 6)
    elif kind in ("float32", "int"):
        rows = rows.astype(kind)
    model = regressor(solver="sgd", learning_rate_init=1e-300).partial_fit(X, NUMBERS)
    before = model.predict(X)
    model.partial_fit(rows, NUMBERS)
    np.testing.assert_array_equal(model.predict(X), before)
    assert model.t_ == 120


def test_names_of_features_are_still_compared():
    pandas = pytest.importorskip("pandas")
    named = pandas.DataFrame(X, columns=list("abcdef"))
    model = regressor().partial_fit(named, NUMBERS)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        model.partial_fit(X, NUMBERS)
    with pytest.raises(ValueError, match="feature names should match"):
        model.partial_fit(named[list("fedcba")], NUMBERS)
