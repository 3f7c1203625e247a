"""The mini-batch loop against the same loop in plain NumPy, with gradients from the formulas."""

import numba
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from fastgd.kernels import layout
from fastgd.kernels.epoch import run_batches
from fastgd.kernels.layout import (
    chunk_bounds,
    layer_table,
    n_parameters,
    parameter_views,
    plan_of_helper,
)
from fastgd.kernels.limits import Limits, clip, limit_parts
from fastgd.kernels.losses import LOSSES
from fastgd.kernels.parts import NOTHING
from fastgd.kernels.team import together
from fastgd.neural_network.epochs import EpochRunner
from fastgd.neural_network.problem import Problem, as_data
from fastgd.optimizers import SGD, Optimizer

pytestmark = pytest.mark.usefixtures("_many_chunks")

SIZES, ACTIVATIONS, LOSS = (3, 4, 2), ("tanh",), "squared_error"
LAYERS = layer_table(SIZES, ACTIVATIONS)
N_WEIGHTS = int(LAYERS[0]["biases"])
MOMENTUM = 0.9
OFF = Limits(0.0, 0.0, 0.0)


def make_samples(n_samples, dtype=np.float64, seed=0, weighted=True):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(n_samples, 3)).astype(dtype), rng.normal(size=(n_samples, 2))
    weight = rng.uniform(0.2, 2.0, n_samples) if weighted else np.ones(n_samples)
    return X, y.astype(dtype), weight.astype(dtype)


def initial(dtype=np.float64):
    return np.random.default_rng(1).normal(size=n_parameters(LAYERS)).astype(dtype)


def gradient(w, X, y, weight, alpha):
    """By the complex step, which is exact: no rounding error is made larger by a difference."""
    result = np.empty(w.size)
    for i in range(w.size):
        moved = w.astype(complex)
        moved[i] += 1e-100j
        value = naive.objective(moved, SIZES, ACTIVATIONS, LOSS, X, y, weight, alpha)
        result[i] = value.imag / 1e-100
    return result


def naive_epoch(X, y, weight, order, batch_size, rates, alpha, limits):
    """One epoch of SGD with momentum: parameters, updates made, totals."""
    w, velocity, n_updates = initial(), 0.0, 0
    totals = np.zeros(4 + len(LAYERS))
    for first in range(0, len(X), batch_size):
        rows = order[first : first + batch_size]
        if weight[rows].sum() == 0:
            continue
        g = gradient(w, X[rows], y[rows], weight[rows], alpha)
        samples = X[rows], y[rows], weight[rows]
        data_term = naive.objective(w, SIZES, ACTIVATIONS, LOSS, *samples, 0.0)
        value = naive.objective(w, SIZES, ACTIVATIONS, LOSS, *samples, alpha)
        totals[:4] += len(rows) * data_term, len(rows) * (value - data_term), len(rows), 1
        totals[4:] += [np.linalg.norm(part) for part in parameter_views(g, LAYERS)[0]]
        if limits.clip_value:
            g = np.clip(g, -limits.clip_value, limits.clip_value)
        if limits.clip_norm:
            g *= min(1.0, limits.clip_norm / np.linalg.norm(g))
        velocity = MOMENTUM * velocity + g
        w -= rates[n_updates] * velocity
        n_updates += 1
        if limits.max_norm:
            for W in parameter_views(w, LAYERS)[0]:
                W *= np.minimum(1.0, limits.max_norm / np.linalg.norm(W, axis=0))
    return w, n_updates, totals


class Epoch:
    """One epoch in the kernel, in one call or in several, by one thread or by several."""

    def __init__(
        self, X, y, weight, order, batch_size, rates, alpha=0.3, limits=OFF, cuts=(), n_threads=1
    ):
        problem = Problem(LAYERS, LOSSES[LOSS](), alpha, as_data(X, y, weight), len(y), X.dtype)
        self.w = initial(X.dtype)
        self.grad = np.empty_like(self.w)
        optimizer = Optimizer(SGD(momentum=MOMENTUM), self.w, chunk_bounds(LAYERS))
        self.memory = optimizer.memory
        self.totals = np.zeros(4 + len(LAYERS))
        self.n_updates = 0
        self.plan = problem.plan(batch_size, gather=order.size > 0).set(
            w=self.w, grad=self.grad, order=order, totals=self.totals, dropout=NOTHING,
            updates=np.zeros(1, np.int64), at_once=not any(limits),
            rule=optimizer.part, **self.memory.entries(), **limit_parts(limits, X.dtype),
        )  # fmt: skip
        plans = [self.plan, *(plan_of_helper(self.plan) for _ in range(1, n_threads))]
        n_batches = -(-len(y) // batch_size)
        stops = sorted({*cuts, n_batches})
        for first, last in zip([0, *stops], stops, strict=False):
            for plan in plans:
                plan.set(rates=rates[self.n_updates :])
            together(run_batches, plans, n_threads, first, last, self.n_updates)
            self.n_updates = int(self.plan["updates"][0])


@pytest.fixture(scope="module")
def _many_chunks():
    """So that even this network has several chunks, and a team something to deal out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "CHUNK_PARAMETERS", 4)
        patch.setattr(layout, "ROW_MULTIPLE", 1)
        assert chunk_bounds(LAYERS).size > 2
        yield


LIMITS = {
    "none": OFF,
    "value": Limits(0.05, 0.0, 0.0),
    "norm": Limits(0.0, 0.1, 0.0),
    "norm now and then": Limits(0.0, 3.0, 0.0),
    "value and norm": Limits(0.1, 0.2, 0.0),
    "weights": Limits(0.0, 0.0, 1.0),
    "all": Limits(0.2, 0.3, 1.5),
}


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("limits", LIMITS)
def test_against_numpy(limits, n_threads):
    """23 samples in batches of 5, the last one of 3, in a shuffled order, with weights."""
    X, y, weight = make_samples(23)
    order = np.random.default_rng(2).permutation(23)
    rates = np.linspace(0.3, 0.05, 5)
    args = (order, 5, rates, 0.3, LIMITS[limits])
    epoch = Epoch(X, y, weight, *args, n_threads=n_threads)
    w, n_updates, totals = naive_epoch(X, y, weight, *args)
    np.testing.assert_allclose(epoch.w, w, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(epoch.totals, totals, rtol=1e-11)
    assert epoch.n_updates == n_updates == 5
    free = naive_epoch(X, y, weight, order, 5, rates, 0.3, OFF)[0]
    assert limits == "none" or np.abs(free - w).max() > 1e-3, "the limits were not reached"


@settings(deadline=None, max_examples=30)
@given(
    n_samples=st.integers(1, 14),
    batch_size=st.integers(1, 14),
    alpha=st.sampled_from([0.0, 0.5]),
    limits=st.sampled_from(sorted(LIMITS)),
    shuffled=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    cuts=st.sets(st.integers(1, 13), max_size=4),
    n_threads=st.integers(2, 4),
)
def test_any_cut_into_batches_and_slices(
    n_samples, batch_size, alpha, limits, shuffled, seed, cuts, n_threads
):
    """Also batches of which every sample, or some, have no weight; and by several threads."""
    X, y, weight = make_samples(n_samples, seed=seed)
    rng = np.random.default_rng(seed)
    weight *= rng.random(n_samples) < 0.6
    n_batches = -(-n_samples // batch_size)
    rows = rng.permutation(n_samples) if shuffled else np.arange(n_samples)
    order = rows if shuffled else np.empty(0, np.int64)
    rates = rng.uniform(0.01, 0.2, n_batches)
    args = (batch_size, rates, alpha, LIMITS[limits])
    whole = Epoch(X, y, weight, order, *args)
    w, n_updates, totals = naive_epoch(X, y, weight, rows, *args)
    np.testing.assert_allclose(whole.w, w, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(whole.totals, totals, rtol=1e-9)
    assert whole.n_updates == n_updates

    sliced = Epoch(X, y, weight, order, *args, cuts={cut for cut in cuts if cut < n_batches})
    np.testing.assert_array_equal(sliced.w, whole.w)
    np.testing.assert_array_equal(sliced.memory.arrays, whole.memory.arrays)
    np.testing.assert_array_equal(sliced.totals, whole.totals)
    assert sliced.n_updates == whole.n_updates

    team = Epoch(X, y, weight, order, *args, n_threads=n_threads)
    np.testing.assert_array_equal(team.w, whole.w)
    np.testing.assert_array_equal(team.memory.arrays, whole.memory.arrays)
    np.testing.assert_array_equal(team.totals[1:], whole.totals[1:])
    # The loss is the one number that is a sum over threads.
    np.testing.assert_allclose(team.totals[0], whole.totals[0], rtol=1e-12)
    assert team.n_updates == whole.n_updates


def test_a_batch_of_zero_weight_is_as_if_it_were_not_there():
    X, y, weight = make_samples(12)
    weight[4:8] = 0.0
    keep = np.r_[0:4, 8:12]
    rates = np.array([0.2, 0.1, 0.05])
    with_it = Epoch(X, y, weight, np.empty(0, np.int64), 4, rates)
    without = Epoch(X[keep], y[keep], weight[keep], np.empty(0, np.int64), 4, rates[:2])
    assert with_it.n_updates == without.n_updates == 2
    np.testing.assert_array_equal(with_it.w, without.w)
    np.testing.assert_array_equal(with_it.totals, without.totals)


def test_nothing_but_zero_weights_changes_nothing():
    X, y, weight = make_samples(6)
    epoch = Epoch(X, y, 0 * weight, np.empty(0, np.int64), 4, np.ones(2))
    assert epoch.n_updates == 0
    np.testing.assert_array_equal(epoch.w, initial())
    assert not epoch.totals.any()


def test_limits_that_are_not_reached_change_nothing():
    """Without limits each chunk is updated by itself, with them all of them at the end."""
    X, y, weight = make_samples(11)
    args = (X, y, weight, np.random.default_rng(0).permutation(11), 4, np.full(3, 0.1), 0.3)
    assert limit_parts(OFF, X.dtype) == {"clip": NOTHING, "constrain": NOTHING}
    free, far_away = Epoch(*args, OFF), Epoch(*args, Limits(1e9, 1e9, 1e9))
    np.testing.assert_array_equal(far_away.w, free.w)
    np.testing.assert_array_equal(far_away.memory.arrays, free.memory.arrays)


def test_no_weights_are_weights_of_one():
    X, y, ones = make_samples(11, weighted=False)
    args = (np.random.default_rng(0).permutation(11), 4, np.full(3, 0.1))
    np.testing.assert_array_equal(Epoch(X, y, None, *args).w, Epoch(X, y, ones, *args).w)


def test_sparse_input_trains_as_dense():
    X, y, weight = make_samples(23)
    X[np.random.default_rng(0).random(X.shape) < 0.5] = 0.0
    args = (y, weight, np.random.default_rng(2).permutation(23), 5, np.linspace(0.3, 0.05, 5))
    sparse, dense = Epoch(scipy.sparse.csr_array(X), *args), Epoch(X, *args)
    np.testing.assert_allclose(sparse.w, dense.w, rtol=1e-12)


@pytest.mark.parametrize("limits", ["none", "all"])
def test_float32_stays_float32(limits):
    X, y, weight = make_samples(23, np.float32)
    args = (np.random.default_rng(2).permutation(23), 5, np.linspace(0.3, 0.05, 5), 0.3)
    epoch = Epoch(X, y, weight, *args, LIMITS[limits])
    names = ("x", "units", "delta", "targets", "weights", "panel", "packed")
    arrays = (epoch.w, epoch.grad, epoch.memory.arrays, *(epoch.plan[name] for name in names))
    assert {a.dtype for a in arrays} == {np.dtype(np.float32)}
    double = (a.astype(np.float64) for a in (X, y, weight))
    w, _, totals = naive_epoch(*double, *args, LIMITS[limits])
    # Five steps, each a few hundred roundings of numbers of size 1.
    np.testing.assert_allclose(epoch.w, w, rtol=0, atol=200 * np.finfo(np.float32).eps)
    np.testing.assert_allclose(epoch.totals, totals, rtol=1e-5)


def test_inputs_are_only_read():
    X, y, weight = make_samples(23)
    order, rates = np.random.default_rng(2).permutation(23), np.linspace(0.3, 0.05, 5)
    inputs = (X, y, weight, order, rates, LAYERS)
    before = [a.copy() for a in inputs]
    for a in (X, y, weight):
        a.flags.writeable = False
    Epoch(X, y, weight, order, 5, rates, limits=LIMITS["all"])
    for a, b in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_max_norm_bounds_the_weights_into_each_unit():
    X, y, weight = make_samples(23)
    args = (X, y, weight, np.empty(0, np.int64), 5, np.full(5, 0.3), 0.3)
    bounded = parameter_views(Epoch(*args, LIMITS["weights"]).w, LAYERS)
    for W in bounded[0]:
        norms = np.linalg.norm(W, axis=0)
        assert (norms <= 1.0 + 4 * np.finfo(float).eps).all()
    # Biases are not bounded.
    assert max(np.abs(b).max() for b in bounded[1]) > 1.0


def test_nan_gets_through_the_limits():
    """A diverged training has to be seen, so clipping must not turn NaN into a number."""
    X, y, weight = make_samples(5)
    X[3, 1] = np.nan
    epoch = Epoch(X, y, weight, np.empty(0, np.int64), 5, np.full(1, 0.1), 0.3, LIMITS["all"])
    assert np.isnan(epoch.totals[0])
    assert np.isnan(epoch.w).any()


def run_epochs(slice_seconds, monkeypatch, weight, schedule=None, **options):
    """Two epochs as the estimator runs them."""
    monkeypatch.setattr("fastgd.neural_network.pace.SLICE_SECONDS", slice_seconds)
    X, y, _ = make_samples(weight.size)
    problem = Problem(LAYERS, LOSSES[LOSS](), 0.3, as_data(X, y, weight), weight.size, X.dtype)
    w = initial()
    random_state = np.random.RandomState(0)
    runner = EpochRunner(
        problem, options.get("rows"), 4,
        Optimizer(SGD(0.1, momentum=MOMENTUM), w, chunk_bounds(LAYERS)),
        shuffle=random_state.shuffle if options.get("shuffle") else None,
        random_state=random_state,
        dropout=False, limits=OFF, schedule=schedule,
    )  # fmt: skip
    for _ in range(2):
        runner.run(w)
    return w, runner


def halve(step):
    return 0.5**step


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"rows": np.arange(30, 2, -1)}])
def test_the_clock_decides_nothing(options, monkeypatch):
    """How long a slice takes says how many batches the next one has, and nothing else."""
    weight = make_samples(40)[2]
    short, runner = run_epochs(0.0, monkeypatch, weight, halve, **options)
    long, _ = run_epochs(1e9, monkeypatch, weight, halve, **options)
    np.testing.assert_array_equal(short, long)
    assert runner.optimizer.n_updates == 2 * runner.n_batches


def test_the_clock_decides_nothing_beside_batches_of_zero_weight(monkeypatch):
    weight = make_samples(40)[2]
    weight[12:16] = 0.0
    short, _ = run_epochs(0.0, monkeypatch, weight, halve)
    long, _ = run_epochs(1e9, monkeypatch, weight, halve)
    np.testing.assert_array_equal(short, long)


@numba.njit
def clipped(limits, grad):
    clip(limits, grad)


@pytest.mark.parametrize(
    ("dtype", "size"),
    [(np.float32, 3e38), *((np.float64, 10.0**p) for p in (155, 160, 180, 200, 308))],
)
def test_a_gradient_whose_squares_overflow_is_clipped_to_the_norm(dtype, size):
    grad = np.array([size, -size, size, size], dtype)
    clipped(Limits(0.0, 2.0, 0.0), grad)
    np.testing.assert_allclose(grad, [1, -1, 1, 1], rtol=1e-6)


def test_an_infinite_gradient_is_not_hidden_by_clipping():
    grad = np.array([np.inf, 1.0])
    clipped(Limits(0.0, 2.0, 0.0), grad)
    assert not np.isfinite(grad).all()
