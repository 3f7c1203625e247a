"""What the estimators offer beyond scikit-learn's, and how they take bad input."""

import pickle
import signal
import warnings
from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score
from sklearn.neural_network import MLPClassifier as TheirMLPClassifier
from sklearn.utils.class_weight import compute_sample_weight

from fastgd import MLPClassifier, MLPRegressor, losses
from fastgd.kernels.losses import identity_link, sum_pointwise
from fastgd.neural_network import TrainingInterrupted
from fastgd.neural_network.problem import as_data
from fastgd.optimizers import ASGD, OPTIMIZERS, SGD, Adam, Optimizer, RMSprop, schedules

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def small(**parameters):
    return MLPClassifier(
        **{"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0} | parameters
    )


# Solvers.


@pytest.mark.parametrize("solver", [name for name in OPTIMIZERS if name not in ("sgd", "adam")])
def test_rule_by_name_is_the_rule_with_its_defaults(digits, solver):
    by_name = small(solver=solver, max_iter=2).fit(*digits)
    by_object = small(solver=OPTIMIZERS[solver](), max_iter=2).fit(*digits)
    np.testing.assert_array_equal(by_name.coefs_[0], by_object.coefs_[0])


def test_learning_rate_init_is_not_ignored_in_silence(digits):
    with pytest.warns(UserWarning, match=r"Pass solver=fastgd.optimizers.RMSprop"):
        small(solver="rmsprop", learning_rate_init=0.1).fit(*digits)


def test_strings_sgd_and_adam_are_the_named_variants(digits):
    adam = small(solver="adam").fit(*digits)
    assert adam._optimizer.rule == Adam(epsilon_hat=True)
    same = small(solver=Adam(epsilon_hat=True)).fit(*digits)
    np.testing.assert_array_equal(adam.coefs_[0], same.coefs_[0])
    sgd = small(solver="sgd").fit(*digits)
    rule = SGD(1e-3, momentum=0.9, nesterov=True, rate_in_velocity=True)
    assert sgd._optimizer.rule == rule


@pytest.mark.parametrize("solver", ["lbfgs", "scipy-bfgs"])
def test_quasi_newton_reaches_the_minimum_of_a_convex_problem(digits, solver):
    X, y = digits
    clf = small(hidden_layer_sizes=(), solver=solver, alpha=1.0, tol=1e-7, max_iter=500).fit(X, y)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(X, y)
    # L-BFGS-B also stops by a relative decrease of 2e-9, which scikit-learn leaves as it is.
    tolerance = 1e-3 if solver == "lbfgs" else 1e-5
    np.testing.assert_allclose(clf.predict_proba(X), theirs.predict_proba(X), atol=tolerance)
    assert len(clf.loss_curve_) == clf.n_iter_
    assert clf.loss_curve_[-1] == clf.loss_ == clf.best_loss_
    assert (np.diff(clf.loss_curve_) <= 1e-12).all()
    assert clf.n_passes_ >= clf.n_iter_
    assert clf.grad_norm_curve_[-1] < 1e-3 * clf.grad_norm_curve_[0]


def test_no_hidden_layer_is_linear_regression(regression):
    X, y = regression
    reg = MLPRegressor(
        hidden_layer_sizes=(), solver="scipy-bfgs", alpha=2.0, tol=1e-7, random_state=0
    )
    theirs = Ridge(alpha=2.0).fit(X, y)
    np.testing.assert_allclose(reg.fit(X, y).predict(X), theirs.predict(X), atol=1e-5)


def test_asgd_returns_the_average(digits):
    average = small(solver=ASGD(0.1, average_start=0)).fit(*digits)
    iterate = small(solver=ASGD(0.1, average_start=1e6)).fit(*digits)
    assert np.abs(average.coefs_[0] - iterate.coefs_[0]).max() > 1e-4


# Architecture of the network.


def test_activation_per_layer(digits):
    X, y = digits
    mixed = small(hidden_layer_sizes=(9, 8), activation=("tanh", "gelu")).fit(X, y)
    h = np.tanh(X @ mixed.coefs_[0] + mixed.intercepts_[0]) @ mixed.coefs_[1] + mixed.intercepts_[1]
    from scipy.stats import norm

    z = h * norm.cdf(h) @ mixed.coefs_[2] + mixed.intercepts_[2]
    expected = np.exp(z - z.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(mixed.predict_proba(X), expected, rtol=1e-10)


@pytest.mark.parametrize("init", ["he", "lecun", "orthogonal"])
def test_scale_of_initial_weights(init):
    clf = small(hidden_layer_sizes=(400,), init=init, max_iter=1, solver=SGD(learning_rate=0.0))
    W = clf.fit(np.random.default_rng(0).normal(size=(20, 300)), np.arange(20) % 2).coefs_[0]
    if init == "orthogonal":
        np.testing.assert_allclose(W @ W.T, np.eye(300), atol=1e-12)
    else:
        variance = {"he": 2 / 300, "lecun": 1 / 300}[init]
        assert np.isclose(W.var(), variance, rtol=0.05)
    assert not clf.intercepts_[0].any()


def test_init_by_a_function(digits):
    def zeros(fan_in, fan_out, random_state):
        return np.zeros((fan_in, fan_out))

    clf = small(init=zeros, max_iter=1, solver=SGD(learning_rate=0.0)).fit(*digits)
    assert not clf.coefs_[0].any()
    with pytest.raises(
        ValueError, match=r"init must return finite real weights of shape \(64, 8\)"
    ):
        small(init=lambda fan_in, fan_out, rng: np.zeros(3)).fit(*digits)


def test_n_init_keeps_the_best_start(digits):
    X, y = digits
    singles = [small(random_state=np.random.RandomState(7))]
    several = small(n_init=4, random_state=np.random.RandomState(7)).fit(X, y)
    # The first start of several draws what a single one draws.
    first = singles[0].fit(X, y)
    assert several.loss_ <= first.loss_
    rng, found = np.random.RandomState(7), []
    for _ in range(4):
        found.append(small(random_state=rng).fit(X, y).loss_)
    assert several.loss_ == min(found)
    assert several.loss_curve_[-1] == several.loss_
    assert len(several.loss_curve_) == 5


# Losses.


def test_quantile_loss_finds_the_quantile():
    rng = np.random.default_rng(0)
    X, y = np.zeros((4000, 1)), rng.exponential(size=4000)
    for quantile in (0.2, 0.9):
        reg = MLPRegressor(
            losses.Quantile(quantile), (), solver=SGD(learning_rate=0.05), max_iter=60, tol=0,
            random_state=0,
        ).fit(X, y)  # fmt: skip
        assert np.isclose((y <= reg.predict(X[:1])[0]).mean(), quantile, atol=0.02)


@pytest.mark.parametrize("loss", ["absolute_error", "huber", losses.Huber(delta=0.3)])
def test_robust_losses_bear_outliers(loss):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(300, 2))
    clean = X @ [1.0, -2.0]
    y = clean + 1000.0 * (rng.random(300) < 0.05)
    parameters = {"hidden_layer_sizes": (), "solver": Adam(0.05), "max_iter": 300, "alpha": 0}
    robust = MLPRegressor(loss, random_state=0, **parameters).fit(X, y)
    squared = MLPRegressor(random_state=0, **parameters).fit(X, y)
    assert np.abs(robust.predict(X) - clean).mean() < 0.5
    assert np.abs(squared.predict(X) - clean).mean() > 10


@pytest.mark.parametrize("n_classes", [2, 4])
def test_hinge_loss(digits, n_classes):
    X, y = digits
    keep = y < n_classes
    clf = small(loss="hinge", max_iter=80, batch_size=20).fit(X[keep], y[keep])
    assert clf.score(X[keep], y[keep]) > 0.97
    assert clf.out_activation_ == "identity"
    margins = clf.decision_function(X[keep])
    predicted = margins > 0 if n_classes == 2 else margins.argmax(axis=1)
    np.testing.assert_array_equal(clf.predict(X[keep]), predicted)
    assert not hasattr(clf, "predict_proba")
    assert not hasattr(small(), "decision_function")
    with pytest.raises(AttributeError, match="predict_proba"):
        clf.predict_proba(X)


def test_kl_divergence_with_soft_targets(digits):
    X, y = digits
    soft = 0.9 * np.eye(10)[y] + 0.01
    parameters = {"hidden_layer_sizes": (30,), "max_iter": 1000, "solver": "lbfgs", "alpha": 0}
    clf = small(loss="kl_divergence", **parameters).fit(X, soft)
    assert clf.score(X, y) > 0.99
    np.testing.assert_allclose(clf.predict_proba(X), soft, atol=0.05)
    with pytest.raises(ValueError, match="probabilities that sum to 1"):
        small(loss="kl_divergence").fit(X, 2 * soft)
    hard = small(loss="kl_divergence").fit(X, y)
    log_loss = small().fit(X, y)
    np.testing.assert_allclose(hard.coefs_[0], log_loss.coefs_[0], rtol=1e-9, atol=1e-12)


def test_loss_of_ones_own(regression):
    class LogCosh(NamedTuple):
        scale: float = 1.0
        out_activation = "identity"
        link = identity_link
        value_and_delta = sum_pointwise

        def pointwise(self, z, y):
            r = (z - y) / self.scale
            return np.log(np.cosh(r)), np.tanh(r) / self.scale

    X, y = regression
    reg = MLPRegressor(LogCosh(), (), solver="lbfgs", alpha=0).fit(X, y[:, 0])
    assert reg.score(X, y[:, 0]) > 0.99


def wrong_loss(**attributes):
    """A loss that takes the number of rows for that of outputs, or what is given."""

    class Mine(NamedTuple):
        def value_and_delta(self, z, y, weight, n_rows, k, delta):
            total = 0.0
            for i in range(n_rows):
                for p in range(i * k, i * k + n_rows):
                    delta[p] = weight[i] * (z[p] - y[p])
                    total += 0.5 * delta[p] * (z[p] - y[p])
            return total

    usual = {"link": identity_link, "out_activation": "identity"}
    for name, value in (usual | attributes).items():
        setattr(Mine, name, value)
    return Mine()


def beyond_the_last_row(self, z, n_rows, k):
    for i in range(n_rows):
        z[i * k] = z[(i + 1) * k]


@pytest.mark.parametrize("n_outputs", [1, 2, 5])
@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, r"Mine\.value_and_delta: index \d+ is out of bounds .* n_rows=\d+ and k=\d"),
        ({"value_and_delta": lambda *args: None}, r"must return the weighted sum .* got None"),
        (
            {"value_and_delta": sum_pointwise, "pointwise": lambda self, z, y: (z - y) ** 2},
            r"Mine\.pointwise must return the value and the slope, got",
        ),
        ({"value_and_delta": lambda *args: 0.0, "link": beyond_the_last_row}, r"Mine\.link: index"),
        (
            {
                "value_and_delta": lambda *args: 0.0,
                "hessian_product": lambda self, z, y, weight, n_rows, k, t: y[n_rows * k],
            },
            r"Mine\.hessian_product: index",
        ),
    ],
)
def test_a_loss_that_reaches_for_what_is_not_there(regression, n_outputs, attributes, message):
    """Compiled code would write to wherever that happens to be."""
    X, y = regression
    net = MLPRegressor(wrong_loss(**attributes), (4,), max_iter=1)
    with pytest.raises(ValueError, match=message):
        net.fit(X, np.squeeze(np.repeat(y[:, :1], n_outputs, axis=1)))
    assert not hasattr(net, "coefs_")


def test_a_buffer_of_a_loss_that_is_too_short(regression):
    X, y = regression

    def of_four(self, z, y, weight, n_rows, k, delta):
        buffer = np.zeros(4)
        for j in range(k):
            buffer[j] = 1.0
        return 0.0

    net = MLPRegressor(wrong_loss(value_and_delta=of_four), (4,), max_iter=1)
    with pytest.raises(ValueError, match=r"index 4 is out of bounds .* k=6"):
        net.fit(X, np.repeat(y[:, :1], 6, axis=1))


def test_a_loss_may_have_a_helper_of_any_name(regression):
    """``pointwise`` must return a slope for ``sum_pointwise`` alone."""
    X, y = regression

    def value_and_delta(self, z, y, weight, n_rows, k, delta):
        total = 0.0
        for p in range(n_rows * k):
            delta[p] = weight[p // k] * (z[p] - y[p])
            total += weight[p // k] * (0.5 * (z[p] - y[p]) ** 2)
        return total

    loss = wrong_loss(value_and_delta=value_and_delta, pointwise=lambda self, z, y: (z - y) ** 2)
    MLPRegressor(loss, (4,), max_iter=1).fit(X, y)


def test_a_loss_for_a_certain_number_of_outputs(regression):
    """It is tried with that number, if with fewer it reaches too far."""
    X, y = regression

    def of_five(self, z, y, weight, n_rows, k, delta):
        total = 0.0
        for i in range(n_rows):
            for j in range(5):
                delta[i * k + j] = weight[i] * (z[i * k + j] - y[i * k + j])
                total += 0.5 * delta[i * k + j] * (z[i * k + j] - y[i * k + j])
        return total

    net = MLPRegressor(wrong_loss(value_and_delta=of_five), (4,), max_iter=1)
    net.fit(X, np.repeat(y[:, :1], 5, axis=1))
    with pytest.raises(ValueError, match="out of bounds"):
        net.fit(X, np.repeat(y[:, :1], 4, axis=1))


# Regularisation.


def test_class_weight_equals_sample_weight(digits):
    X, y = digits
    y = (y == 3).astype(int)
    for class_weight in ("balanced", {0: 0.5, 1: 4.0}):
        weighted = small(class_weight=class_weight).fit(X, y)
        explicit = small().fit(X, y, sample_weight=compute_sample_weight(class_weight, y))
        np.testing.assert_array_equal(weighted.coefs_[0], explicit.coefs_[0])
    with pytest.raises(ValueError, match=r"balanced.*partial_fit"):
        small(class_weight="balanced").partial_fit(X, y, classes=[0, 1])


def test_dropout_regularises(digits):
    X, y = digits
    shuffled = np.random.default_rng(0).permutation(y)
    parameters = {"hidden_layer_sizes": (60, 40), "max_iter": 80, "batch_size": 30}
    plain = small(**parameters).fit(X, shuffled)
    dropped = small(dropout=(0.5, 0.3), **parameters).fit(X, shuffled)
    assert plain.score(X, shuffled) > dropped.score(X, shuffled) + 0.1
    again = small(dropout=(0.5, 0.3), **parameters).fit(X, shuffled)
    np.testing.assert_array_equal(dropped.coefs_[0], again.coefs_[0])


def test_max_norm_and_clipping(digits):
    X, y = digits
    clf = small(max_norm=0.5, solver=SGD(learning_rate=1.0), max_iter=10).fit(X, y)
    for W in clf.coefs_:
        assert np.linalg.norm(W, axis=0).max() <= 0.5 + 1e-12
    for early_stopping in (False, True):
        rule = ASGD(learning_rate=1.0, average_start=0.0)
        clf = small(max_norm=0.5, solver=rule, early_stopping=early_stopping).fit(X, y)
        for W in clf.coefs_:
            assert np.linalg.norm(W, axis=0).max() <= 0.5 + 1e-12
    start = small(solver=SGD(learning_rate=0.0), max_iter=1).fit(X, y)
    flat = lambda c: np.concatenate([a.ravel() for a in c.coefs_ + c.intercepts_])  # noqa: E731
    one_step = {"max_iter": 1, "batch_size": 300, "solver": SGD(learning_rate=1.0)}
    by_norm = flat(small(clip_norm=1e-3, **one_step).fit(X, y)) - flat(start)
    assert np.isclose(np.linalg.norm(by_norm), 1e-3)
    by_value = flat(small(clip_value=1e-4, **one_step).fit(X, y)) - flat(start)
    assert np.isclose(np.abs(by_value).max(), 1e-4)


# Learning-rate schedules.


@pytest.mark.parametrize("schedule", sorted(schedules.SCHEDULES))
def test_schedule_by_name(digits, schedule):
    named = small(schedule=schedule).fit(*digits)
    as_object = small(schedule=schedules.SCHEDULES[schedule]()).fit(*digits)
    np.testing.assert_array_equal(named.coefs_[0], as_object.coefs_[0])


def test_schedule_as_a_function(digits):
    seen = []

    def halve_after_3(step):
        seen.append(step)
        return 1.0 if step < 3 else 0.5

    clf = small(schedule=halve_after_3, batch_size=100, max_iter=2).fit(*digits)
    assert sorted(seen) == list(range(6))
    constant = small(batch_size=100, max_iter=1).fit(*digits)
    assert clf.loss_curve_[0] == constant.loss_curve_[0]
    with pytest.raises(ValueError, match="schedule must return finite factors"):
        small(schedule=lambda step: -1.0).fit(*digits)


def test_policies_work_for_every_rule(digits):
    clf = small(solver=RMSprop(0.01), schedule="invscaling").fit(*digits)
    assert clf._optimizer.learning_rate == 0.01 / (5 * 300 + 1) ** 0.5
    clf = small(solver=RMSprop(0.01), schedule="adaptive", tol=10.0, n_iter_no_change=1)
    assert clf.set_params(max_iter=12).fit(*digits)._optimizer.learning_rate < 0.01


# Curves, validation, callbacks, interruption.


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_own_validation_set(digits, solver):
    X, y = digits
    plain = small(solver=solver, max_iter=20).fit(X[:200], y[:200])
    clf = small(solver=solver, max_iter=20).fit(X[:200], y[:200], X_val=X[200:], y_val=y[200:])
    np.testing.assert_array_equal(plain.coefs_[0], clf.coefs_[0])
    assert len(clf.validation_scores_) == len(clf.validation_loss_curve_) == clf.n_iter_
    assert clf.validation_scores_[-1] == clf.score(X[200:], y[200:])
    own = -np.log(clf.predict_proba(X[200:])[np.arange(100), y[200:]]).mean()
    assert np.isclose(clf.validation_loss_curve_[-1], own)
    assert clf.best_validation_score_ == max(clf.validation_scores_)


def test_early_stopping_on_own_validation_set(digits):
    X, y = digits
    clf = small(early_stopping=True, max_iter=300, learning_rate_init=0.05, n_iter_no_change=3)
    clf.fit(X[:200], y[:200], X_val=X[200:], y_val=y[200:])
    assert clf.n_iter_ < 300
    assert clf.t_ == 200 * clf.n_iter_
    assert clf.score(X[200:], y[200:]) == clf.best_validation_score_
    with pytest.raises(ValueError, match="y_val is None"):
        clf.fit(X, y, X_val=X)


def test_gradient_norms_show_vanishing_gradients(digits):
    deep = {"hidden_layer_sizes": (16,) * 8, "max_iter": 2}
    sigmoid = small(activation="logistic", **deep).fit(*digits).grad_norm_curve_[0]
    relu = small(activation="relu", init="he", **deep).fit(*digits).grad_norm_curve_[0]
    assert sigmoid.shape == (9,)
    assert sigmoid[0] < 1e-3 * sigmoid[-1]
    assert relu[0] > 1e-2 * relu[-1]


class Recorder:
    def __init__(self, stop_after=None, error=None):
        self.stop_after, self.error, self.events = stop_after, error, []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        if context.task_name == "fit":
            return None
        self.events.append((context.task_name, fitted_estimator.score(X, y)))
        if self.error is not None:
            raise self.error
        return len(self.events) - 1 == self.stop_after


@pytest.mark.parametrize(("solver", "task"), [("adam", "epoch"), ("lbfgs", "iteration")])
def test_callbacks_see_and_stop_the_training(digits, solver, task):
    recorder = Recorder(stop_after=3)
    clf = small(solver=solver, max_iter=50).set_callbacks(recorder).fit(*digits)
    assert clf.n_iter_ == 3
    assert recorder.events[0] == "setup"
    assert recorder.events[-1] == "teardown"
    assert [event[0] for event in recorder.events[1:-1]] == [task] * 3
    assert recorder.events[-2][1] == clf.score(*digits)


@pytest.mark.parametrize("kind", ["classes", "words", "two", "labels"])
@pytest.mark.parametrize("weighted", [False, True])
def test_scores_of_early_stopping_are_accuracies(digits, kind, weighted):
    X, y = digits
    y = {
        "classes": y, "words": np.char.add("class ", y.astype(str)), "two": y > 4,
        "labels": np.stack([y > 4, y % 2 == 0], axis=1).astype(int),
    }[kind]  # fmt: skip
    weight = np.linspace(0.0, 3.0, len(y)) if weighted else None
    clf = small(max_iter=3).fit(X, y)
    score = clf._score_outputs(y, clf._outputs(X), weight)
    assert 0.0 < score < 1.0
    assert score == accuracy_score(y, clf.predict(X), sample_weight=weight)


def test_no_held_out_sample_has_a_weight(regression):
    X, y = regression
    weight = np.zeros(len(y))
    weight[0] = 1.0
    for model, targets in ((MLPRegressor(), y), (small(), y > np.median(y))):
        model.set_params(early_stopping=True, random_state=1)
        with pytest.raises(ValueError, match="held out for validation have a weight of 0"):
            model.fit(X, targets, sample_weight=weight)


def test_all_samples_that_have_a_weight_are_held_out(digits):
    """One of 300 has; a tenth of them are held out."""
    X, y = digits
    clf, messages = small(early_stopping=True), set()
    for place in range(60):
        weight = np.zeros(len(y))
        weight[place] = 1.0
        with pytest.raises(ValueError, match="weight") as error:
            clf.fit(X, y, sample_weight=weight)
        messages.add(str(error.value)[:14])
    assert messages == {"No sample that", "Sample weights"}


def test_held_out_samples_have_the_weights_of_their_classes(digits):
    X, y = digits
    weight = np.linspace(0.5, 1.5, len(y))
    weight_of_each = np.where(y == 3, 5.0, 1.0)
    common = {"early_stopping": True, "max_iter": 4, "random_state": 0}
    by_class = small(class_weight={3: 5.0}, **common).fit(X, y, sample_weight=weight)
    by_sample = small(**common).fit(X, y, sample_weight=weight_of_each * weight)
    assert by_class.validation_scores_ == by_sample.validation_scores_
    assert by_class.validation_loss_curve_ == by_sample.validation_loss_curve_


def test_scikit_learn_callbacks(digits, capsys):
    X, y = digits
    monitor = ScoringMonitor(scoring="accuracy")
    clf = small(max_iter=6).set_callbacks(ProgressBar(), monitor).fit(X, y)
    data = monitor.get_logs().data
    scores = [row["accuracy"] for row in data if row["task_name"] == "epoch"]
    assert len(scores) == 6
    assert scores[-1] == accuracy_score(y, clf.predict(X))
    again = small(max_iter=6, n_init=2).set_callbacks(monitor).fit(X, y)
    assert again.n_iter_ == 6


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_ctrl_c_leaves_a_usable_model(digits, solver):
    """A signal in the middle of a fit, as the terminal sends it."""

    class PressCtrlC(Recorder):
        def on_fit_task_end(self, estimator, context):
            if estimator.n_iter_ == 2 and context.task_name != "fit":
                signal.raise_signal(signal.SIGINT)

    clf = small(solver=solver, max_iter=50, n_init=3).set_callbacks(PressCtrlC())
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        clf.fit(*digits)
    reference = small(solver=solver, max_iter=2, n_init=1).fit(*digits)
    np.testing.assert_allclose(clf.coefs_[0], reference.coefs_[0], rtol=1e-12)
    assert clf.loss_curve_ == reference.loss_curve_


def test_error_in_a_callback_leaves_the_old_model(digits):
    clf = small().fit(*digits)
    before = clf.predict_proba(digits[0])
    recorder = Recorder(error=RuntimeError("no disk"))
    with pytest.raises(RuntimeError, match="no disk"):
        clf.set_callbacks(recorder).fit(*digits)
    assert recorder.events[-1] == "teardown"
    np.testing.assert_array_equal(clf.predict_proba(digits[0]), before)


# Divergence.


@pytest.mark.parametrize("warm_start", [False, True])
def test_divergence_is_an_error_and_loses_nothing(regression, warm_start):
    X, y = regression
    reg = MLPRegressor(hidden_layer_sizes=(5,), max_iter=5, random_state=0, warm_start=warm_start)
    before = reg.fit(X, y).predict(X)
    n_curve = len(reg.loss_curve_)
    reg.set_params(solver=SGD(learning_rate=1e200), activation="identity", max_iter=50)
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        reg.fit(X, y)
    reg.set_params(activation="relu")
    np.testing.assert_array_equal(reg.predict(X), before)
    assert len(reg.loss_curve_) == n_curve


def test_divergence_with_early_stopping_keeps_the_best(regression):
    X, y = regression
    reg = MLPRegressor(
        hidden_layer_sizes=(5,), activation="identity", solver=SGD(1e150), early_stopping=True
    )
    with pytest.warns(ConvergenceWarning, match="Training diverged in epoch"):
        reg.fit(X, y)
    assert np.isfinite(reg.predict(X)).all()
    assert np.isnan(reg.validation_scores_[-1])


def test_a_loss_beyond_all_numbers_does_not_improve(regression):
    """Adam's average of squares is infinite, and no parameter moves."""
    X, y = regression
    reg = MLPRegressor(hidden_layer_sizes=(5,), max_iter=100, random_state=0)
    with pytest.warns(ConvergenceWarning, match="The loss is inf: the data may need to be scaled"):
        reg.fit(X, 1e200 * y)
    assert reg.n_iter_ == reg.n_iter_no_change + 1
    assert "The loss is inf" in reg.stop_reason_
    reg.set_params(early_stopping=True).fit(X, 1e200 * y)
    assert reg.n_iter_ == reg.n_iter_no_change + 1


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_partial_fit_says_nothing_of_convergence(regression):
    X, y = regression
    reg = MLPRegressor(hidden_layer_sizes=(5,), random_state=0)
    for _ in range(15):
        reg.partial_fit(X, 1e200 * y)


# Parameters that are not views any more.


def test_parameters_are_views_of_one_vector_and_can_be_replaced(digits):
    X, y = digits
    clf = small().fit(X, y)
    base = clf.coefs_[0].base
    assert all(a.base is base for a in clf.coefs_ + clf.intercepts_)
    proba = clf.predict_proba(X)
    clf.intercepts_[-1][3] += 100.0
    assert (clf.predict(X) == 3).all()
    clf.intercepts_[-1] = np.zeros(10)
    clf.coefs_[0] = np.zeros((64, 8))
    assert np.ptp(clf.predict_proba(X), axis=0).max() < 1e-12
    copied = pickle.loads(pickle.dumps(small().fit(X, y)))
    np.testing.assert_array_equal(copied.predict_proba(X), proba)
    clf.coefs_[0] = np.zeros((3, 8))
    with pytest.raises(ValueError, match="shapes"):
        clf.predict(X)


def test_coefs_that_are_no_matrices(digits):
    clf = small().fit(*digits)
    clf.coefs_[0] = clf.coefs_[0].ravel()
    with pytest.raises(ValueError, match="coefs_ must be matrices"):
        clf.predict(digits[0])


def test_warm_start_refuses_another_shape(digits):
    clf = small(warm_start=True).fit(*digits)
    with pytest.raises(ValueError, match="shapes"):
        clf.set_params(hidden_layer_sizes=(9,)).fit(*digits)


def test_predictions_are_those_of_the_fit_whatever_is_set_for_the_next(regression, digits):
    X, y = regression
    reg = MLPRegressor(hidden_layer_sizes=(5,), max_iter=5, random_state=0).fit(X, y)
    before = reg.predict(X)
    reg.set_params(loss="poisson", hidden_layer_sizes=(9, 9), dropout=(0.1, 0.2))
    np.testing.assert_array_equal(reg.predict(X), before)
    copied = pickle.loads(pickle.dumps(reg))
    np.testing.assert_array_equal(copied.predict(X), before)


def test_parameters_of_another_precision_or_kind(digits):
    X, y = digits
    clf = small().fit(X.astype(np.float32), y)
    before = clf.predict_proba(X)
    clf.coefs_[1] = clf.coefs_[1].astype(np.float64)
    np.testing.assert_allclose(clf.predict_proba(X), before, rtol=1e-4, atol=1e-6)
    clf.partial_fit(X, y)
    clf.coefs_ = [np.ones((64, 8), int), np.ones((8, 10), int)]
    clf.intercepts_ = [np.zeros(8, int), np.zeros(10, int)]
    assert np.isfinite(clf.predict_proba(X)).all()


@pytest.mark.parametrize("loss", ["log_loss", "hinge", "kl_divergence"])
def test_validation_labels_that_are_unknown(digits, loss):
    X, y = digits
    keep = y != 5
    with pytest.raises(ValueError, match=r"labels \[5\], which are not among the classes"):
        small(loss=loss).fit(X[keep], y[keep], X_val=X[~keep], y_val=y[~keep])


def test_validation_targets_of_another_shape(digits, regression):
    X, y = digits
    soft = np.eye(10)[y]
    clf = small(loss="kl_divergence")
    with pytest.raises(ValueError, match="y_val has 7 outputs, but y has 10"):
        clf.fit(X, soft, X_val=X, y_val=np.full((300, 7), 1 / 7))
    with pytest.raises(ValueError, match="probabilities that sum to 1"):
        clf.fit(X, soft, X_val=X, y_val=5 * soft)
    X, y = regression
    with pytest.raises(ValueError, match="y_val has 1 outputs, but y has 2"):
        MLPRegressor((5,)).set_params(loss="squared_error", hidden_layer_sizes=(5,)).fit(
            X, y, X_val=X, y_val=y[:, 0]
        )


def test_loss_objects_of_the_wrong_kind(digits):
    X, y = digits
    binary = y % 2
    by_number = {"solver": "lbfgs", "max_iter": 200}
    clf = small(loss=losses.SquaredError(), **by_number).fit(X, binary)
    assert clf.score(X, binary) > 0.97
    with pytest.raises(ValueError, match="more than two classes"):
        small(loss=losses.CategoricalLogLoss()).fit(X, binary)
    with pytest.raises(ValueError, match="for two classes or for labels, y has 10"):
        small(loss=losses.BinaryLogLoss()).fit(X, y)
    with pytest.raises(ValueError, match="is for classes, not for numbers"):
        MLPRegressor(losses.CategoricalHinge()).fit(X, y)
    for bad in (losses.Huber, losses):
        with pytest.raises(ValueError, match=r"'loss' parameter|loss must be the name"):
            MLPRegressor(bad).fit(X, y)


def test_a_failed_partial_fit_leaves_the_optimizer_as_it_was(regression):
    X, y = regression
    parameters = {"hidden_layer_sizes": (5,), "random_state": 0, "activation": "identity"}
    disturbed, calm = (MLPRegressor(**parameters).partial_fit(X, y) for _ in range(2))
    with pytest.raises(ValueError, match="non-finite"):
        disturbed.partial_fit(X * 1e200, y)
    np.testing.assert_array_equal(
        disturbed.partial_fit(X, y).coefs_[0], calm.partial_fit(X, y).coefs_[0]
    )


def test_partial_fit_takes_a_changed_rule(digits):
    X, y = digits
    clf = small(solver=SGD(0.1, momentum=0.9)).partial_fit(X, y, classes=range(10))
    before = clf.coefs_[0].copy()
    velocity = clf._optimizer.memory.arrays.copy()
    clf.set_params(solver=SGD(0.0, momentum=0.9)).partial_fit(X, y)
    np.testing.assert_array_equal(clf.coefs_[0], before)
    assert clf._optimizer.n_updates == 4
    assert (clf._optimizer.memory.arrays != velocity).any()
    clf.set_params(solver=RMSprop(0.01)).partial_fit(X, y)
    assert clf._optimizer.n_updates == 2


def test_early_stopping_can_be_switched(digits):
    X, y = digits
    clf = small(early_stopping=True, warm_start=True).fit(X, y)
    clf.set_params(early_stopping=False).fit(X, y)
    assert np.isfinite(clf.best_loss_)
    clf.set_params(early_stopping=True, solver="lbfgs").fit(X, y)
    assert np.isfinite(clf.loss_)


def test_interruption_keeps_the_best_start(digits):
    class PressCtrlCInSecondStart(Recorder):
        def __init__(self):
            self.begun = 0

        def on_fit_task_begin(self, estimator, context):
            self.begun += context.task_name == "epoch"
            if self.begun == 31:
                signal.raise_signal(signal.SIGINT)

        def setup(self, estimator, context): ...

        def teardown(self, estimator, context): ...

        def on_fit_task_end(self, estimator, context): ...

    first = small(max_iter=30).fit(*digits)
    clf = small(max_iter=30, n_init=3, n_iter_no_change=99).set_callbacks(PressCtrlCInSecondStart())
    with pytest.warns(TrainingInterrupted):
        clf.fit(*digits)
    assert clf.n_iter_ == 30
    np.testing.assert_array_equal(clf.coefs_[0], first.coefs_[0])


def test_a_start_that_was_interrupted_before_its_first_score_is_not_the_best(regression):
    """R² of the first one is far below 0, and the loss of the second near 0."""
    X, y = regression
    starts = 0

    def interrupt_second_start(step):
        nonlocal starts
        starts += step == 0
        if starts == 2 and step == 1:
            raise KeyboardInterrupt
        return 1.0

    common = {"hidden_layer_sizes": (20,), "batch_size": 20, "max_iter": 2, "random_state": 0}
    first = MLPRegressor(early_stopping=True, **common).fit(X, 1e-3 * y)
    assert first.best_validation_score_ < -1.0 < -first.loss_
    reg = MLPRegressor(early_stopping=True, n_init=2, schedule=interrupt_second_start, **common)
    with pytest.warns(TrainingInterrupted):
        reg.fit(X, 1e-3 * y)
    assert starts == 2
    assert reg.best_validation_score_ == first.best_validation_score_
    np.testing.assert_array_equal(reg.coefs_[0], first.coefs_[0])


def test_starts_with_a_validation_set_are_compared_by_what_is_kept(digits):
    X, y = digits
    clf = small(n_init=4, max_iter=12, batch_size=20).fit(
        X[:200], y[:200], X_val=X[200:], y_val=y[200:]
    )
    rng, scores = np.random.RandomState(0), []
    for _ in range(4):
        single = small(max_iter=12, batch_size=20, random_state=rng)
        scores.append(single.fit(X[:200], y[:200]).score(X[200:], y[200:]))
    assert clf.score(X[200:], y[200:]) == max(scores)


def test_what_a_solver_ignores_is_said(digits):
    with pytest.warns(UserWarning, match="dropout, max_norm has no effect with solver='lbfgs'"):
        small(solver="lbfgs", dropout=0.2, max_norm=1.0).fit(*digits)


def test_optimizer_refuses_arrays_of_another_shape():
    optimizer = Optimizer(SGD(), np.zeros(3))
    three = np.zeros(3)
    wrong = np.zeros(9), np.zeros(2), np.zeros(3, np.float32), np.zeros(6)[::2]
    for w, g in [(a, three) for a in wrong] + [(three, a) for a in wrong]:
        with pytest.raises(ValueError, match="must be a contiguous array of shape"):
            optimizer.update(w, g)


# Bad input.


@pytest.mark.parametrize(("parameters", "message"), [
    ({"activation": ("tanh",) * 2}, "activation must be one value, or one for each of the 1"),
    ({"activation": ("sine",)}, "activation must be one of .* got 'sine'"),
    ({"activation": "sine"}, "'activation' parameter"),
    ({"solver": "newton-raphson"}, "'solver' parameter"),
    ({"solver": Adam(beta_1=1.0)}, r"Adam: beta_1 must be a number in \[0, 1\), got 1.0"),
    ({"solver": Adam}, "'solver'|solver must be"),
    ({"dropout": 1.0}, "'dropout' parameter"),
    ({"dropout": (0.1, 0.2)}, "dropout must be one value"),
    ({"dropout": (1.5,)}, "dropout must have rates"),
    ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes must be > 0"),
    ({"hidden_layer_sizes": (3.0,)}, "hidden_layer_sizes must be > 0, and whole numbers"),
    ({"hidden_layer_sizes": True}, "hidden_layer_sizes must be > 0, and whole numbers"),
    ({"loss": "squared"}, "'loss' parameter"),
    ({"clip_norm": 0.0}, "'clip_norm' parameter"),
    ({"n_init": 0}, "'n_init' parameter"),
    ({"init": "ones"}, "'init' parameter"),
    ({"schedule": "weekly"}, "'schedule' parameter"),
    ({"class_weight": "even"}, "'class_weight' parameter"),
    ({"class_weight": [{0: 1, 1: 2}]}, "class_weight may be a list of dicts.* y has labels in"),
    ({"init": lambda n_in, n_out, rng: np.ones((n_in, n_out)) + 1j}, "init must return .* real"),
], ids=str)  # fmt: skip
def test_bad_parameters_are_named(digits, parameters, message):
    clf = small(**parameters)
    with pytest.raises(ValueError, match=message):
        clf.fit(*digits)
    assert not hasattr(clf, "coefs_")
    assert not hasattr(clf, "classes_")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_input(digits, value):
    X, y = digits
    clf = small().fit(X, y)
    before = clf.coefs_[0].copy()
    bad = X.copy()
    bad[3, 5] = value
    with pytest.raises(ValueError, match="Input X contains"):
        clf.fit(bad, y)
    with pytest.raises(ValueError, match="Input X contains"):
        clf.predict(bad)
    with pytest.raises(ValueError, match="Input sample_weight contains"):
        clf.fit(X, y, sample_weight=np.where(np.arange(300) == 1, value, 1.0))
    np.testing.assert_array_equal(clf.coefs_[0], before)


def test_bad_weights_and_shapes(digits):
    X, y = digits
    with pytest.raises(ValueError, match="Negative values"):
        small().fit(X, y, sample_weight=-np.ones(300))
    with pytest.raises(ValueError, match="at least one non-zero"):
        small().fit(X, y, sample_weight=np.zeros(300))
    with pytest.raises(ValueError, match=r"sample_weight\.shape"):
        small().fit(X, y, sample_weight=np.ones(3))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        small().fit(X, y[:-1])
    with pytest.raises(ValueError, match="expecting 64 features"):
        small().fit(X, y).predict(X[:, :5])
    with pytest.raises(ValueError, match="0 sample"):
        small().fit(X[:0], y[:0])
    with pytest.raises(ValueError, match="Unknown label type"):
        small().fit(X, X[:, 10] + 0.5)
    with pytest.raises(ValueError, match="targets of at least 0, got -1"):
        MLPRegressor("poisson").fit(X, y - 1.0)


def test_odd_but_valid_input(digits):
    X, y = digits
    read_only = X.copy()
    read_only.flags.writeable = False
    expected = small().fit(X, y).coefs_[0]
    np.testing.assert_array_equal(small().fit(read_only, y).coefs_[0], expected)
    np.testing.assert_array_equal(small().fit(np.asfortranarray(X), y).coefs_[0], expected)
    np.testing.assert_array_equal(
        small().fit(np.repeat(X, 2, axis=1)[:, ::2], y).coefs_[0], expected
    )
    sparse = scipy.sparse.csr_array(X)
    sparse.indices, sparse.indptr = sparse.indices.astype(np.int64), sparse.indptr.astype(np.int64)
    np.testing.assert_allclose(small().fit(sparse, y).coefs_[0], expected, rtol=1e-9, atol=1e-12)
    mirrored = scipy.sparse.csr_array(X[:, ::-1])
    indices = X.shape[1] - 1 - mirrored.indices  # in descending order in each row
    unsorted = scipy.sparse.csr_array((mirrored.data, indices, mirrored.indptr), X.shape)
    np.testing.assert_array_equal(
        small().fit(unsorted, y).coefs_[0], small().fit(scipy.sparse.csr_array(X), y).coefs_[0]
    )
    np.testing.assert_array_equal(unsorted.indices, indices)  # the user's own stays as it was
    swapped = scipy.sparse.csr_array(X)
    for name in ("data", "indices", "indptr"):
        a = getattr(swapped, name)
        setattr(swapped, name, a.astype(a.dtype.newbyteorder(">")))
    np.testing.assert_allclose(small().fit(swapped, y).coefs_[0], expected, rtol=1e-9, atol=1e-12)
    assert small().fit((X * 16).astype(int), y).coefs_[0].dtype == np.float64
    one_class = small().fit(X, np.full(300, "a"))
    assert (one_class.predict(X) == "a").all()
    single = small(max_iter=2).fit(X[:1], y[:1])
    assert single.predict(X[:1])[0] == y[0]
    constant = small().fit(np.ones((30, 4)), np.arange(30) % 2)
    assert np.isfinite(constant.loss_)


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_sparse_input_whose_columns_are_renamed_in_place(digits, solver, monkeypatch):
    """SciPy remembers that its indices were in order, also when they are so no more."""
    for limit in ("CHUNK_PARAMETERS", "SMALLEST_CHUNK"):  # each of which searches the rows
        monkeypatch.setattr(f"fastgd.kernels.layout.{limit}", 100)
    X, y = digits
    sparse = scipy.sparse.csr_array(X)
    columns = np.random.RandomState(0).permutation(X.shape[1])
    for _ in range(2):
        fits = [small(solver=solver, max_iter=3).fit(A, y) for A in (sparse, sparse.toarray())]
        np.testing.assert_allclose(fits[0].coefs_[0], fits[1].coefs_[0], rtol=1e-6, atol=1e-9)
        np.testing.assert_array_equal(fits[0].predict(sparse), fits[0].predict(sparse.toarray()))
        assert sparse.has_sorted_indices
        sparse.indices[:] = columns[sparse.indices]


def test_integer_and_float64_input_to_a_float32_model(digits):
    X, y = digits
    clf = small().fit(X.astype(np.float32), y)
    assert clf.predict_proba(X).dtype == np.float32
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf.partial_fit(X, y)
    assert clf.coefs_[0].dtype == np.float32


# What a fit leaves, and what is set for the next one.


def test_predictions_are_those_of_the_fitted_network(digits):
    X, y = digits
    clf = small().fit(X, y)
    before = clf.predict_proba(X)
    clf.set_params(activation="tanh", loss="hinge", hidden_layer_sizes=(4, 4))
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    assert not hasattr(clf, "decision_function")
    assert hasattr(clf.fit(X, y), "decision_function")
    assert not hasattr(clf, "predict_proba")


@pytest.mark.parametrize("loss", [losses.Poisson(), losses.SquaredError(), losses.Hinge()])
def test_what_is_no_probability_is_a_margin(digits, loss):
    X, y = digits[0], digits[1] > 4
    clf = small(loss=loss).fit(X, y)
    assert not hasattr(clf, "predict_proba")
    np.testing.assert_array_equal(clf.decision_function(X) > 0, clf.predict(X))


def test_an_average_is_what_is_scored_and_kept(digits):
    X, y = digits
    rule = ASGD(learning_rate=0.05, average_start=0.0)
    clf = small(solver=rule).fit(X, y, X_val=X, y_val=y)
    assert clf.validation_scores_[-1] == clf.score(X, y)
    early = small(solver=rule, early_stopping=True).fit(X, y, X_val=X, y_val=y)
    assert early.best_validation_score_ == early.score(X, y)


@pytest.mark.parametrize("weights", [{0: -1.0}, {0: np.nan}, {0: np.inf}])
def test_class_weights_that_are_none(digits, weights):
    with pytest.raises(ValueError, match=r"class_weight must be finite and not negative, got"):
        small(class_weight=weights).fit(*digits)


def test_samples_without_any_weight(digits):
    X, y = digits
    with pytest.raises(ValueError, match="No sample has a weight above 0 in float64"):
        small(class_weight={0: 0.0}).fit(X, y, sample_weight=(y == 0).astype(float))
    with pytest.raises(ValueError, match="or one is infinite"):
        small(class_weight={0: 1e308}).fit(X, y, sample_weight=np.full(len(y), 1e308))


def test_one_sample_has_no_r2():
    X, y = np.eye(4), np.arange(4.0)
    net = MLPRegressor(hidden_layer_sizes=(2,), early_stopping=True)
    with pytest.raises(ValueError, match="X_val must have at least 2 samples"):
        net.fit(X, y, X_val=X[:1], y_val=y[:1])


@pytest.mark.parametrize("early_stopping", [False, True])
def test_labels_in_columns_are_validated_by_such(digits, early_stopping):
    X, y = digits
    labels = np.c_[y % 2, y > 4].astype(int)
    clf = small(early_stopping=early_stopping)
    for wrong in (y % 2, y, y.astype(str), np.c_[labels, y > 7], labels + y[:, np.newaxis]):
        with pytest.raises(ValueError, match="y_val must be labels in 2 columns, as y is, but is"):
            clf.fit(X, labels, X_val=X, y_val=wrong)
    scores = []
    for right in (labels, labels.astype(bool), scipy.sparse.csr_array(labels)):
        scores.append(clf.fit(X, labels, X_val=X, y_val=right).validation_scores_)
    assert scores[0] == scores[1] == scores[2]
    assert scores[0][-1] == clf.score(X, labels) or early_stopping


@pytest.mark.parametrize("loss", ["kl_divergence", losses.KLDivergence()])
def test_probabilities_as_targets(loss):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), rng.dirichlet(np.ones(3), 60)
    labels = np.array(["a", "b", "c"])
    clf = small(loss=loss).partial_fit(X, y, classes=labels).partial_fit(X, y, classes=labels)
    np.testing.assert_array_equal(clf.classes_, labels)
    expected = accuracy_score(labels[y.argmax(axis=1)], clf.predict(X))
    assert clf.score(X, y) == expected
    with pytest.raises(ValueError, match=r"3 columns of probabilities, but .* has \['a' 'b'\]"):
        small(loss=loss).partial_fit(X, y, classes=["a", "b"])
    one_hot = np.eye(3)[y.argmax(axis=1)]
    hot = small(loss=loss).partial_fit(X, one_hot, classes=labels)
    assert hot.predict(X).shape == (60,)
    column = labels[y.argmax(axis=1)][:, np.newaxis]
    with warnings.catch_warnings(action="ignore"):
        assert clf.score(X, column) == expected
    with pytest.raises(ValueError, match=r"class_weight is for labels.*sample_weight"):
        small(loss=loss, class_weight="balanced").fit(X, y)


def test_a_first_partial_fit_that_fails_leaves_nothing(digits):
    X, y = digits
    clf = small()
    with pytest.raises(ValueError, match="has classes not in"):
        clf.partial_fit(X, y, classes=[0, 1])
    assert not hasattr(clf, "classes_")
    np.testing.assert_array_equal(clf.partial_fit(X, y, classes=range(10)).classes_, range(10))


@pytest.mark.parametrize("solver", ["lbfgs", "bfgs", "dual-annealing", "differential-evolution"])
def test_callbacks_of_several_starts(digits, solver):
    X, y = digits[0][:, :2], digits[1] > 4
    monitor = ScoringMonitor(scoring="accuracy")
    clf = small(solver=solver, hidden_layer_sizes=(1,), n_init=2, max_iter=1)
    clf.set_callbacks(monitor).fit(X, y)
    assert clf.n_iter_ == 1


def test_a_solution_that_is_no_state():
    class Wrong(NamedTuple):
        learning_rate: float = 0.1
        solution = "average"

        def step(self, w, g, state, scalars, t, learning_rate):
            w -= learning_rate * g

    with pytest.raises(ValueError, match=r"solution must be one of .* \(\), got 'average'"):
        Optimizer(Wrong(), np.zeros(3))


def test_weights_whose_squares_float32_does_not_hold():
    net = MLPRegressor(
        "absolute_error", (3,), activation="tanh", max_norm=1.0, max_iter=1,
        init=lambda n_in, n_out, rng: np.full((n_in, n_out), 1e20),
    )  # fmt: skip
    net.fit(np.eye(4, dtype=np.float32), np.arange(4))
    np.testing.assert_allclose(np.linalg.norm(net.coefs_[0], axis=0), 1.0, rtol=1e-6)


@pytest.mark.parametrize("n_samples", [3, 20_000])
def test_what_predictions_notice_by_the_way(digits, n_samples):
    """NaN and infinity are refused wherever they lie, large numbers are not."""
    clf = small().fit(digits[0].astype(np.float32), digits[1])
    X = np.zeros((n_samples, 64), np.float32)
    expected = clf.predict(X)
    for bad in (np.nan, np.inf, -np.inf):
        X[-1, -1] = bad
        with pytest.raises(ValueError, match="Input X contains"):
            clf.predict(X)
    X[-1, -1] = 0.0
    np.testing.assert_array_equal(clf.predict(X), expected)
    X[0] = 3e38
    assert clf.predict(X).shape == (n_samples,)


# What a stranger tried.


def test_a_warm_start_keeps_the_best_of_what_there_is(digits):
    """Not what scored better than all of it once, and is not there any more."""
    X, y = digits
    held_out = {"X_val": X[200:], "y_val": y[200:]}
    clf = small(warm_start=True, max_iter=30, learning_rate_init=0.01)
    clf.fit(X[:200], y[:200], **held_out)
    best = max(clf.validation_scores_)
    clf.set_params(max_iter=3, learning_rate_init=0.3).fit(X[:200], y[:200], **held_out)
    before = len(clf.validation_scores_)
    spoilt = clf.score(X[200:], y[200:])
    assert spoilt < best
    clf.set_params(early_stopping=True, max_iter=30, learning_rate_init=1e-3)
    clf.fit(X[:200], y[:200], **held_out)
    assert clf.best_validation_score_ == max(spoilt, *clf.validation_scores_[before:])
    assert clf.score(X[200:], y[200:]) == clf.best_validation_score_


def test_early_stopping_after_a_fit_without_keeps_what_it_begins_with(digits):
    X, y = digits
    clf = small(warm_start=True, max_iter=60, learning_rate_init=0.01).fit(X[:200], y[:200])
    before = clf.score(X[200:], y[200:])
    clf.set_params(early_stopping=True, learning_rate_init=0.5, max_iter=3)
    clf.fit(X[:200], y[:200], X_val=X[200:], y_val=y[200:])
    assert clf.score(X[200:], y[200:]) == max(before, *clf.validation_scores_)


@pytest.mark.parametrize("seed", range(4))
def test_warm_starts_with_early_stopping_train_as_scikit_learns(digits, seed):
    """The score for which parameters were kept stays, though the samples are split anew."""
    X, y = digits
    nets = [
        cls((10,), early_stopping=True, warm_start=True, random_state=seed, max_iter=8,
            n_iter_no_change=5, learning_rate_init=0.03)
        for cls in (MLPClassifier, TheirMLPClassifier)
    ]  # fmt: skip
    for _ in range(3):
        ours, theirs = (net.fit(X, y) for net in nets)
        assert ours.n_iter_ == theirs.n_iter_
        assert ours.best_validation_score_ == theirs.best_validation_score_


def test_starts_are_stopped_by_the_same_samples(digits, monkeypatch):
    splits = []
    usual = MLPClassifier._split

    def counted(self, *samples):
        splits.append(samples)
        return usual(self, *samples)

    monkeypatch.setattr(MLPClassifier, "_split", counted)
    small(early_stopping=True, n_init=3).fit(*digits)
    assert len(splits) == 1


def test_validation_targets_may_be_objects(digits):
    X, y = digits
    targets = (y * 0.1).astype(object)
    net = MLPRegressor(hidden_layer_sizes=(2,), max_iter=2)
    assert len(net.fit(X, targets, X_val=X, y_val=targets).validation_scores_) == 2


@pytest.mark.parametrize("kind", ["classes", "labels"])
def test_partial_fit_on_batches_without_a_class_that_has_a_weight(kind):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    if kind == "classes":
        weight, rows, classes = {0: 2.0}, y > 0, [0, 1, 2]
    else:
        y = rng.integers(0, 2, (60, 3))
        weight, rows, classes = [{1: 2.0}] * 3, y[:, 0] == 1, [0, 1, 2]
    weighed = small(class_weight=weight).partial_fit(X, y, classes=classes)
    weighed.partial_fit(X[rows], y[rows])
    if kind == "classes":
        sums = np.where(y == 0, 2.0, 1.0)
    else:
        sums = np.prod(np.where(y == 1, 2.0, 1.0), axis=1)
    by_hand = small().partial_fit(X, y, sums, classes=classes)
    by_hand.partial_fit(X[rows], y[rows], sums[rows])
    np.testing.assert_allclose(weighed.coefs_[0], by_hand.coefs_[0], rtol=1e-12)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e-44, 1e-38, 1e-30, 1e30, 2e36])
def test_the_unit_of_sample_weights_is_no_matter(size, dtype, solver):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)).astype(dtype)
    weight = rng.uniform(0.5, 2.0, 60)
    usual, other = (
        MLPRegressor(
            hidden_layer_sizes=(4,), solver=solver, alpha=0.01 * factor, max_iter=8, random_state=0
        ).fit(X, X[:, 0] * 0.3, weight * factor)
        for factor in (1.0, size)
    )
    rtol = 1e-4 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(other.loss_curve_, usual.loss_curve_, rtol=rtol)
    np.testing.assert_allclose(other.coefs_[0], usual.coefs_[0], rtol=10 * rtol, atol=rtol)


def test_usual_sample_weights_keep_their_bits(digits):
    """Within some powers of ten they are not touched."""
    X, y = digits
    weight = np.random.default_rng(0).uniform(1e-9, 1e9, len(y))
    assert small().objective(X, y, weight).alpha == small().alpha
    np.testing.assert_array_equal(as_data(X, y, weight).weight, weight)


@pytest.mark.parametrize(("dtype", "size"), [(np.float64, 1e-310), (np.float32, 1e-60)])
def test_alpha_that_is_infinite_beside_the_weights(digits, dtype, size):
    X, y = digits
    with pytest.raises(ValueError, match=r"alpha=1.0 is too large for weights of 1e-"):
        small(alpha=1.0).fit(X.astype(dtype), y, np.full(len(y), size))


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        ("squared_error", np.array(["1.5", "2"] * 10), "y must be numbers, got an array of"),
        ("squared_error", np.array(["2020-01-01"] * 20, "M8[D]"), "y must be numbers|DType"),
        (losses.BinaryLogLoss(), np.linspace(0, 2, 20), r"needs targets in \[0, 1\]"),
        (losses.KLDivergence(), np.linspace(-1, 1, 40).reshape(20, 2), "must be probabilities"),
        ("huber", np.full(20, 1e300), "y has numbers beyond those of float32"),
    ],
)
def test_targets_that_are_none(loss, y, message):
    X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    net = MLPRegressor(hidden_layer_sizes=(2,), loss=loss, max_iter=2)
    with pytest.raises((ValueError, TypeError), match=message):
        net.fit(X, y)
    assert not hasattr(net, "coefs_")


def test_sparse_targets(digits):
    X, y = digits
    labels = (y[:, np.newaxis] == np.arange(3)).astype(int)
    dense, sparse = (small().fit(X, t) for t in (labels, scipy.sparse.csr_matrix(labels)))
    np.testing.assert_array_equal(dense.coefs_[0], sparse.coefs_[0])
    with pytest.raises(TypeError, match="y must be dense"):
        MLPRegressor().fit(X, scipy.sparse.csr_matrix(labels * 1.0))
    shares = np.full((len(y), 2), 0.5)
    nets = [small(loss="kl_divergence").fit(X, t) for t in (shares, scipy.sparse.csr_array(shares))]
    np.testing.assert_array_equal(nets[0].coefs_[0], nets[1].coefs_[0])
    assert nets[0].score(X, shares) == nets[0].score(X, scipy.sparse.csr_array(shares))
    column = scipy.sparse.csr_matrix((y % 2)[:, np.newaxis])
    small().fit(X, y % 2, X_val=X, y_val=column)


def test_labels_in_a_column_for_the_kl_divergence(digits):
    X, y = digits
    column = small(loss="kl_divergence")
    with pytest.warns(UserWarning, match="column-vector y was passed"):
        column.fit(X, y[:, np.newaxis])
    np.testing.assert_array_equal(column.coefs_[0], small(loss="kl_divergence").fit(X, y).coefs_[0])


def test_one_class_has_all_probability(digits):
    X, _ = digits
    clf = small(loss="kl_divergence").fit(X, ["only"] * len(X))
    np.testing.assert_array_equal(clf.predict_proba(X), np.ones((len(X), 1)))


def test_labels_of_another_kind_than_before(digits):
    X, y = digits
    clf = small(warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="y must be one label for each sample"):
        clf.partial_fit(X, (y[:, np.newaxis] == np.arange(10)).astype(int))


def test_numbers_in_arrays_without_dimensions(digits):
    clf = small(hidden_layer_sizes=np.array(3), dropout=np.array(0.3)).fit(*digits)
    assert [coef.shape for coef in clf.coefs_] == [(64, 3), (3, 10)]


@pytest.mark.parametrize("solver", ["adam", "lbfgs", "bfgs"])
def test_each_task_of_a_callback_ends(digits, solver):
    begun, ended = [], []

    class Pairs(Recorder):
        def on_fit_task_begin(self, estimator, context):
            begun.append((context.task_name, context.task_id))

        def on_fit_task_end(self, estimator, context):
            ended.append((context.task_name, context.task_id))

    clf = small(solver=solver, max_iter=4).set_callbacks(Pairs()).fit(*digits)
    assert sorted(begun) == sorted(ended)
    assert len(ended) == clf.n_iter_ + 1  # and the fit


@pytest.mark.parametrize("batch_size", [2, 7])
def test_a_loss_that_overrides_one_of_ours(digits, batch_size):
    """What it says counts, also where the loss it comes from has a faster way for few outputs."""

    class NothingToLearn(losses.CategoricalLogLoss):
        def value_and_delta(self, z, y, weight, n_rows, k, delta):
            for i in range(n_rows * k):
                delta[i] = 0
            return 7.0

    X, y = digits[0][:70], digits[1][:70]
    clf = small(loss=NothingToLearn(), batch_size=batch_size, alpha=0.0).fit(X, y)
    assert clf.loss_ == 7.0


@pytest.mark.parametrize("seed", [0, 1, np.int64(7), 2**32 - 1])
def test_a_seed_is_numpys(seed):
    ours, theirs = small(random_state=seed)._generator(), np.random.RandomState(seed)
    for number in (ours, theirs):
        assert isinstance(number, np.random.RandomState)
    np.testing.assert_array_equal(ours.get_state()[1], theirs.get_state()[1])
    assert ours.get_state()[2:] == theirs.get_state()[2:]
    np.testing.assert_array_equal(ours.normal(size=5), theirs.normal(size=5))


def test_an_objective_within_a_fit_does_not_disturb_it(digits):
    X, y = digits[0][:100], digits[1][:100]

    def fitted(asks):
        clf = small(batch_size=16, warm_start=True).fit(X, y)

        class Asking:
            def setup(self, estimator, context):
                pass

            def teardown(self, estimator, context):
                pass

            def on_fit_task_begin(self, estimator, context, **kwargs):
                pass

            def on_fit_task_end(self, estimator, context, **kwargs):
                if asks:
                    estimator.objective(X, y)

        return clf.set_callbacks(Asking()).fit(X, y).coefs_[0]

    np.testing.assert_array_equal(fitted(True), fitted(False))


def test_parameter_names_are_those_of_each_class():
    class Fewer(MLPClassifier):
        def __init__(self, alpha=0.1):
            super().__init__(alpha=alpha)

        @classmethod
        def _get_param_names(cls):
            names = super()._get_param_names()
            names.remove("alpha")
            return names

    assert Fewer().get_params() == Fewer().get_params() == {}
    assert small().get_params()["alpha"] == 1e-4


@pytest.mark.parametrize("classes", [[0, 1], [0, 1, 2, 3], np.array([0, 1, 2], object)])
def test_partial_fit_with_other_classes(classes):
    X, y = np.eye(6), np.arange(6) % 3
    clf = small().partial_fit(X, y, classes=[0, 1, 2])
    for same in (None, (0, 1, 2), np.array([2, 1, 0]), np.array([0.0, 1.0, 2.0])):
        clf.partial_fit(X, y, classes=same)
    with pytest.raises(ValueError, match=r"classes|label type"):
        clf.partial_fit(X, y, classes=classes)
