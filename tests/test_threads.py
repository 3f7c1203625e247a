"""Parameters and predictions do not depend on the number of threads, not by a single bit."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse

from fastgd import MLPClassifier, MLPRegressor, _threads
from fastgd.kernels import layout
from fastgd.kernels.gemm import DEPTH
from fastgd.kernels.layout import chunk_bounds, layer_table, n_parameters
from fastgd.kernels.tiles import HAS_TILES
from fastgd.losses import LOSSES
from fastgd.neural_network import epochs
from fastgd.neural_network import pace as pace_module
from fastgd.neural_network.pace import Pace
from fastgd.neural_network.prediction import Predictor
from fastgd.neural_network.problem import Problem, as_data
from fastgd.optimizers import OPTIMIZERS, SGD, Adam
from threads import AlwaysTogether, Restless, several_threads

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

needs_tiles = pytest.mark.skipif(not HAS_TILES, reason="no parts where products are BLAS's")

N, D, K = 90, 60, 3
HIDDEN = (61, 38)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, D)) * (RNG.random((N, D)) < 0.5)
Y = RNG.integers(0, K, N)
WEIGHT = RNG.uniform(0.2, 2.0, N) * (RNG.random(N) < 0.8)


class Normalised(NamedTuple):
    """A user's rule that has to see all parameters together: it divides by the norm."""

    learning_rate: float = 0.05
    state = ("last",)
    scalars = ("size", "n_calls")

    def step(self, w, g, state, scalars, t, learning_rate):
        total = 0.0
        for i in range(g.size):
            total += g[i] * g[i]
        for i in range(w.size):
            state[0, i] = g[i]
            w[i] -= learning_rate / math.sqrt(total) * g[i]
        scalars[0] = w.size
        scalars[1] += 1


class OneByOne(NamedTuple):
    """A user's rule that promises to look at each parameter by itself."""

    learning_rate: float = 0.05
    elementwise = True
    state = ("average",)
    scalars = ("size", "n_calls")

    def step(self, w, g, state, scalars, t, learning_rate):
        for i in range(w.size):
            state[0, i] = 0.5 * state[0, i] + 0.5 * g[i]
            w[i] -= learning_rate * state[0, i] / (1.0 + abs(state[0, i]))
        scalars[0] = w.size
        scalars[1] += 1


def fit(
    n_jobs, X=X, dtype=np.float64, kind="dense", sample_weight=None, pace=AlwaysTogether,
    in_parts=False, **kw,
):  # fmt: skip
    """A fitted classifier, and the sizes of the teams that trained it.

    The last batch of an epoch is smaller than there are threads.
    """
    kw = {"batch_size": 22, "max_iter": 3, "tol": 0.0, "n_iter_no_change": 50, **kw}
    clf = MLPClassifier(
        HIDDEN, activation=("tanh", "gelu"), random_state=0, n_jobs=n_jobs, alpha=0.1, **kw
    )
    X = X.astype(dtype)
    X = scipy.sparse.csr_array(X) if kind == "csr" else X
    with several_threads(pace, in_parts) as sizes:
        layers = layer_table((D, *HIDDEN, K), ("tanh", "gelu"))
        assert chunk_bounds(layers).size > 8
        clf.fit(X, Y[: X.shape[0]], sample_weight)
    assert clf.coefs_[0].dtype == dtype
    return clf, sizes


def members(n_jobs):
    """Of a team that may have so many: where products are BLAS's there is one."""
    return n_jobs if HAS_TILES else 1


def assert_same_bits(clf, other):
    for a, b in zip(clf.coefs_ + clf.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)
    assert clf.n_iter_ == other.n_iter_
    # The reported loss is the one number that is a sum over threads.
    eps = np.finfo(clf.coefs_[0].dtype).eps
    np.testing.assert_allclose(clf.loss_curve_, other.loss_curve_, rtol=100 * eps)
    np.testing.assert_array_equal(clf.grad_norm_curve_, other.grad_norm_curve_)
    assert clf.validation_scores_ == other.validation_scores_


WAYS = {
    "plain": {},
    "dropout": {"dropout": (0.3, 0.2)},
    "clip_value": {"clip_value": 0.002},
    "clip_norm": {"clip_norm": 0.05},
    "max_norm": {"max_norm": 0.5},
    "everything": {"clip_value": 0.01, "clip_norm": 0.1, "max_norm": 0.7, "dropout": 0.2},
    "sample weights": {"sample_weight": WEIGHT},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.2},
    "in order": {"shuffle": False},
    "schedule": {"schedule": "cosine"},
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("way", WAYS)
def test_fit(way, kind, dtype):
    alone, sizes = fit(1, kind=kind, dtype=dtype, **WAYS[way])
    assert set(sizes) == {1}
    for n_jobs in (2, 3, 4):
        team, sizes = fit(n_jobs, kind=kind, dtype=dtype, **WAYS[way])
        assert max(sizes) == members(n_jobs)
        assert_same_bits(team, alone)
    if way != "plain":
        plain, _ = fit(1, kind=kind, dtype=dtype)
        assert np.abs(plain.coefs_[0] - alone.coefs_[0]).max() > 1e-5, "it made no difference"


@pytest.fixture
def planned(monkeypatch):
    """The plan of each fit, which says what is added."""
    found = []

    def noted(plan):
        found.append(layout.set_parts(plan))
        return plan

    monkeypatch.setattr(epochs, "set_parts", noted)
    return found


def parts_of(plan):
    """Number of parts of a batch, and where the second half of the features begins."""
    return plan["n_parts"], plan["middle"]


@needs_tiles
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("batch_size", "parts"), [(40, (2, None)), (20, (1, 32))], ids=["of rows", "of features"]
)
def test_fit_in_two_parts(batch_size, parts, way, dtype, planned):
    """Each of two threads has one part; one thread alone, or more than two, add both as well."""
    options = {"batch_size": batch_size, "dtype": dtype, **WAYS[way]}
    alone, _ = fit(1, in_parts=True, **options)
    for n_jobs in (2, 3, 4):
        team, sizes = fit(n_jobs, in_parts=True, **options)
        assert max(sizes) == members(n_jobs)
        assert_same_bits(team, alone)
    at_once, _ = fit(1, **options)
    assert [parts_of(plan) for plan in planned] == [parts] * 4 + [(1, None)]
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(alone.coefs_[0], at_once.coefs_[0], atol=1e3 * eps)


def assert_same_bits_in_teams(X, y, in_parts=False, **settings):
    """Fit a classifier with one, two and three threads."""
    coefs = []
    for n_jobs in (1, 2, 3):
        clf = MLPClassifier(random_state=0, n_jobs=n_jobs, max_iter=2, tol=0.0, **settings)
        with several_threads(in_parts=in_parts) as sizes:
            clf.fit(X, y)
        assert max(sizes) == members(n_jobs)
        coefs.append(np.concatenate([W.ravel() for W in clf.coefs_]))
    np.testing.assert_array_equal(coefs[1], coefs[0])
    np.testing.assert_array_equal(coefs[2], coefs[0])


def test_vectors_so_long_that_blas_would_share_them():
    rng = np.random.RandomState(0)
    X, y = rng.normal(size=(600, 300)), rng.randint(0, 5, 600)
    fits = [
        MLPClassifier((100,), solver="lbfgs", max_iter=5, random_state=0, n_jobs=n_jobs).fit(X, y)
        for n_jobs in (1, 2)
    ]
    np.testing.assert_array_equal(fits[0].coefs_[0], fits[1].coefs_[0])


@needs_tiles
@pytest.mark.parametrize("n_features", [2100, 4100])
def test_halves_that_are_longer_than_a_block_of_a_sum(n_features, planned):
    """Sums are cut into blocks of ``DEPTH``, wherever they begin."""
    rows = np.random.default_rng(3).normal(size=(60, n_features)).astype(np.float32)
    assert_same_bits_in_teams(rows, Y[:60], in_parts=True, hidden_layer_sizes=(17,), batch_size=25)
    assert all(plan["middle"] > DEPTH for plan in planned)


@needs_tiles
@pytest.mark.parametrize(
    ("n_features", "rows", "middle"),
    [(784, 128, 400), (784, 256, 400), (784, 262, None), (75, 25, 48), (4000, 25, 2000)],
)
def test_many_features_are_halved_at_a_line_of_the_cache(n_features, rows, middle):
    plan = layout.network_plan(layer_table((n_features, 300, 10), ("relu",)), np.float32, rows)
    assert layout.set_parts(plan)["middle"] == middle


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("hidden", [(2048,), (1030, 5)])
def test_long_sums(hidden, dtype):
    """A product of few multiplications is cut into the same pieces as one of many."""
    assert_same_bits_in_teams(X[:, :10].astype(dtype), Y, hidden_layer_sizes=hidden, batch_size=80)


@needs_tiles
@pytest.mark.parametrize("n_jobs", [1, 2, 4])
def test_a_part_may_be_empty(n_jobs, planned):
    """The last batch has one row, and the penalty is there once."""
    options = {"X": X[:81], "batch_size": 40, "max_iter": 2}
    parts, _ = fit(n_jobs, in_parts=True, **options)
    at_once, _ = fit(1, **options)
    assert [parts_of(plan) for plan in planned] == [(2, None), (1, None)]
    for a, b in zip(parts.coefs_, at_once.coefs_, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


RULES = {name: cls() for name, cls in OPTIMIZERS.items()}
RULES |= {"normalised": Normalised(), "one by one": OneByOne()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", RULES)
def test_fit_by_each_rule(rule, dtype):
    alone, _ = fit(1, solver=RULES[rule], dtype=dtype)
    for n_jobs in (2, 4):
        team, sizes = fit(n_jobs, solver=RULES[rule], dtype=dtype)
        assert max(sizes) == members(n_jobs)
        assert_same_bits(team, alone)
        np.testing.assert_array_equal(team._optimizer.state, alone._optimizer.state)


@pytest.mark.parametrize("n_jobs", [1, 3])
@pytest.mark.parametrize("limits", [{}, {"clip_norm": 0.1, "max_norm": 1.0}])
def test_a_rule_that_is_not_elementwise_sees_all_parameters(n_jobs, limits):
    clf, _ = fit(n_jobs, solver=Normalised(), **limits)
    n = sum(a.size for a in clf.coefs_ + clf.intercepts_)
    n_steps = 3 * -(-N // 22)
    assert clf._optimizer.scalars.tolist() == [[n, n_steps]]
    # The others see one chunk after the other, each with scalars of its own.
    clf, _ = fit(n_jobs, solver=OneByOne(), **limits)
    sizes, steps = clf._optimizer.scalars.T
    assert sizes.sum() == n
    assert sizes.size > 7
    assert set(steps) == {n_steps}


def test_a_step_of_a_normalised_rule_has_its_length():
    """A rule that was given chunks would divide by the norm of each, and go farther."""
    start, _ = fit(1, solver=SGD(learning_rate=0.0), batch_size=N, max_iter=1)
    for n_jobs in (1, 4):
        clf, _ = fit(n_jobs, solver=Normalised(0.25), batch_size=N, max_iter=1)
        before, after = (np.concatenate([a.ravel() for a in c.coefs_ + c.intercepts_])
                         for c in (start, clf))  # fmt: skip
        assert math.isclose(np.linalg.norm(after - before), 0.25, rel_tol=1e-12)


@needs_tiles
@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("way", ["dropout", "everything", "early stopping"])
def test_the_number_of_threads_may_change_at_any_time(way, kind):
    alone, _ = fit(1, kind=kind, **WAYS[way])
    team, sizes = fit(4, kind=kind, pace=Restless, **WAYS[way])
    assert set(sizes) >= {1, 2, 3, 4}
    assert_same_bits(team, alone)


def test_others_may_have_the_processors():
    """A fit that finds three of four processors reserved goes on alone, with the same result."""
    with several_threads(), _threads.reserved(3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_threads, "_n_processors", lambda: 4)
        beside, sizes = fit(4)
    assert set(sizes) == {1}
    assert_same_bits(beside, fit(4)[0])


def test_partial_fit_goes_on_with_another_number_of_threads():
    def train(jobs):
        clf = MLPClassifier(HIDDEN, random_state=0, batch_size=22, solver=Adam(0.01))
        for n_jobs in jobs:
            with several_threads():
                clf.set_params(n_jobs=n_jobs).partial_fit(X, Y, classes=range(K))
        return clf

    assert_same_bits(train((3, 1, 4, 2)), train((1, 1, 1, 1)))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("n_last", [1, 3, 9])
def test_a_short_last_batch_of_many_features(n_last):
    """Some pieces of it have no rows, of which there are no products."""
    X = RNG.normal(size=(40 + n_last, 2100))
    nets = []
    for n_jobs in (1, 2):
        with several_threads(in_parts=True) as sizes:
            net = MLPRegressor(hidden_layer_sizes=(70,), batch_size=20, max_iter=4, random_state=0)
            nets.append(net.set_params(n_jobs=n_jobs).fit(X, X[:, 0]))
        assert max(sizes) == members(n_jobs)
    assert_same_bits(*nets)


@pytest.mark.parametrize("loss", ["squared_error", "huber", "poisson"])
def test_regression(loss):
    y = RNG.poisson(2.0, (N, 2)).astype(float)
    nets = []
    for n_jobs in (1, 3):
        with several_threads() as sizes:
            net = MLPRegressor(loss, HIDDEN, batch_size=22, max_iter=3, random_state=0)
            nets.append(net.set_params(n_jobs=n_jobs).fit(X, y))
        assert max(sizes) == members(n_jobs)
    assert_same_bits(*nets)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_predictions_by_one_estimator_with_other_numbers_of_threads():
    """The buffers of a call are those of the next one, as far as they go."""
    X = RNG.normal(size=(400, 7))
    net = MLPRegressor(hidden_layer_sizes=HIDDEN, max_iter=1, random_state=0, n_jobs=4)
    net.fit(X, X[:, 0])
    expected = net.predict(X)  # by one thread
    with several_threads() as sizes:
        for n_rows in (1, 400, 5, 399, 90, 400, 17, 1):
            found = net.predict(X[:n_rows])
            np.testing.assert_allclose(found, expected[:n_rows], rtol=1e-12, atol=1e-14)
        # Numbers that are not finite are told apart again after a call that had some.
        with pytest.raises(ValueError, match="contains NaN"):
            net.predict(np.full((90, 7), np.nan))
        np.testing.assert_allclose(net.predict(X), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(net.predict(X[:50]), expected[:50], rtol=1e-12, atol=1e-14)
    assert max(sizes) == members(4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("n_samples", [1, 3, 90, 91, 400])
def test_predictions(n_samples, kind, dtype, monkeypatch):
    rng = np.random.default_rng(1)
    layers = layer_table((D, *HIDDEN, K), ("tanh", "gelu"))
    w = rng.normal(size=n_parameters(layers)).astype(dtype)
    rows = rng.normal(size=(n_samples, D)).astype(dtype)
    rows = scipy.sparse.csr_array(rows) if kind == "csr" else rows
    loss = LOSSES["categorical_log_loss"]()
    expected = Predictor(layers, w, loss, 1).outputs(rows)
    assert np.abs(expected.sum(axis=1) - 1).max() < 1e-5
    # Several blocks for each thread as well.
    for block_bytes in (2**22, 1):
        monkeypatch.setattr("fastgd.kernels.samples.BLOCK_BYTES", block_bytes)
        for n_jobs in (2, 3, 4):
            with several_threads() as sizes:
                team = Predictor(layers, w, loss, n_jobs)
                outputs, codes = team.outputs(rows), team.codes(rows)
            assert sizes == [members(n_jobs)] * 2
            np.testing.assert_array_equal(outputs, expected)
            np.testing.assert_array_equal(codes, expected.argmax(axis=1))


class Reversed(NamedTuple):
    """A user's loss: the smallest raw output is the largest prediction."""

    out_activation = "identity"

    def value_and_delta(self, z, y, weight, n_rows, k, delta):
        return 0.0

    def link(self, z, n_rows, k):
        for p in range(n_rows * k):
            z[p] = -z[p]


@pytest.mark.parametrize("loss", [Reversed(), *(cls() for cls in LOSSES.values())])
def test_the_largest_prediction(loss):
    """Where the link keeps the order, it is not even called; elsewhere it must be."""
    rng = np.random.default_rng(2)
    layers = layer_table((D, *HIDDEN, K), ("tanh", "gelu"))
    predictor = Predictor(layers, rng.normal(size=n_parameters(layers)), loss, 1)
    outputs = predictor.outputs(X)
    np.testing.assert_array_equal(predictor.codes(X), outputs.argmax(axis=1))
    np.testing.assert_array_equal(predictor.outputs(X), outputs)


def test_the_largest_of_equal_probabilities_is_that_of_the_largest_output():
    """As of the probabilities in more digits."""
    layers = layer_table((1, 3), ())
    w = np.array([0, 1e-9, 0, 0, 0, 0], np.float32)
    predictor = Predictor(layers, w, LOSSES["categorical_log_loss"](), 1)
    one = np.ones((1, 1), np.float32)
    assert len(set(predictor.outputs(one).ravel())) == 1
    assert predictor.codes(one) == [1]


@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["equal", "weighted"])
def test_objective(kind, weight, monkeypatch):
    """Its value is a sum over threads, so it agrees to rounding only."""
    layers = layer_table((D, *HIDDEN, K), ("tanh", "gelu"))
    rows = scipy.sparse.csr_array(X) if kind == "csr" else X
    data, loss = as_data(rows, Y.reshape(-1, 1), weight), LOSSES["categorical_log_loss"]()
    w = np.random.default_rng(1).normal(size=n_parameters(layers))
    alone = Problem(layers, loss, 0.3, data, N, X.dtype, 1).objective()
    value, gradient = alone.fun_and_grad(w)
    for block_bytes in (2**22, 1):  # one block of rows, and two
        monkeypatch.setattr("fastgd.kernels.samples.BLOCK_BYTES", block_bytes)
        for n_jobs in (2, 3, 4):
            with several_threads() as sizes:
                team = Problem(layers, loss, 0.3, data, N, X.dtype, n_jobs).objective()
                assert math.isclose(team.fun(w), value, rel_tol=1e-12)
                team_value, team_gradient = team.fun_and_grad(w)
            assert sizes == [members(n_jobs)] * 2
            assert math.isclose(team_value, value, rel_tol=1e-12)
            most = np.abs(gradient).max()
            np.testing.assert_allclose(team_gradient, gradient, rtol=1e-12, atol=1e-12 * most)


def test_lbfgs_trains_in_a_team():
    losses = []
    for n_jobs in (1, 4):
        with several_threads() as sizes:
            clf = MLPClassifier(HIDDEN, solver="lbfgs", random_state=0, max_iter=10, alpha=1.0)
            losses.append(clf.set_params(n_jobs=n_jobs).fit(X, Y).loss_curve_)
        assert max(sizes) == members(n_jobs)
    # Ten steps, each of which makes the rounding of those before a little larger.
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-8)


def learned(
    seconds_alone, seconds_together, n_slices, most=2, compiles=True, long_batches=True
):  # fmt: skip
    """The number of threads, and of batches, of each slice on a machine as slow as that."""
    pace, slices = Pace(most, compiles, long_batches), []
    for _ in range(n_slices):
        n_threads, n_batches = pace.n_threads, pace.n_batches
        slices.append((n_threads, n_batches))
        seconds = seconds_alone if n_threads == 1 else seconds_together
        pace.learn(n_threads, n_batches, n_batches * seconds)
    return slices


def test_a_team_is_kept_where_it_is_faster():
    slices = learned(2e-3, 1.2e-3, 200)
    together = [n_threads for n_threads, _ in slices[1:]].count(2)
    assert slices[0] == (1, 1), "several would wait for the same compilation"
    assert learned(2e-3, 1.2e-3, 1, compiles=False) == [(2, 1)]
    assert 0.9 < together / len(slices) < 1.0, "now and then one thread alone is tried"
    assert max(n_batches for _, n_batches in slices) == int(pace_module.SLICE_SECONDS / 1.2e-3)


def test_a_call_that_is_over_soon_starts_no_thread():
    for compiles in (True, False):
        slices = learned(1e-4, 6e-5, 30, compiles=compiles, long_batches=False)
        first_together = [n_threads for n_threads, _ in slices].index(2)
        alone = sum(n_batches * 1e-4 for _, n_batches in slices[compiles:first_together])
        assert alone == pytest.approx(pace_module.SECONDS_BEFORE_A_TEAM, rel=0.2)
    assert learned(0.1, 0.06, 3, compiles=False, long_batches=False)[1][0] == 2


def test_a_team_is_dissolved_where_it_brings_nothing():
    slices = learned(2e-3, 1.9e-3, 200)
    spent = sum(n_batches * 1.9e-3 for n_threads, n_batches in slices[20:] if n_threads == 2)
    assert 0 < spent < 0.1 * sum(n_batches * 2e-3 for _, n_batches in slices[20:])
    assert {n_threads for n_threads, _ in learned(2e-3, 1e-3, 50, most=1)} == {1}


def test_a_slice_is_never_empty_nor_grows_at_once():
    assert {n_batches for _, n_batches in learned(10.0, 8.0, 20)} == {1}
    lengths = [n_batches for _, n_batches in learned(0.0, 0.0, 6, most=1)]
    assert lengths == [64**i for i in range(6)]


def test_a_team_that_nobody_gives():
    """Other fits have all processors: whatever is asked for, there is one thread."""
    pace = Pace(2, compiles=False, long_batches=True)
    for _ in range(200):
        pace.learn(1, pace.n_batches, pace.n_batches * 2e-3)
        assert pace.n_batches >= 1
    pace = Pace(4, compiles=False, long_batches=True)
    for i in range(200):
        pace.learn(min(pace.n_threads, 1 + i % 3), pace.n_batches, pace.n_batches * 2e-3)
        assert pace.n_threads in (1, 4)


def test_trials_cost_little_where_batches_are_long():
    slices = learned(2.0, 1.1, 300, compiles=False)
    alone = sum(n_batches * 2.0 for n_threads, n_batches in slices if n_threads == 1)
    assert 0 < alone < 0.02 * sum(n_batches * 1.1 for _, n_batches in slices)
