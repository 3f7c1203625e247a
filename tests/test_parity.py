"""The same model as scikit-learn's, number for number, from the same seed."""

import warnings

import numpy as np
import pytest
import scipy.sparse
import sklearn.neural_network
from sklearn.datasets import load_digits, make_classification, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning

import fastgd

EPOCHS = 5
TOLERANCE = 1e-9

OPTIMIZERS = {
    "adam": {"solver": "adam"},
    "adam-fields": {
        "solver": "adam", "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-3,
        "learning_rate_init": 0.01,
    },
    "nesterov": {"solver": "sgd"},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False, "momentum": 0.7},
    "plain": {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.1},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.2},
    "adaptive": {
        "solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.1, "tol": 10.0,
        "n_iter_no_change": 1,
    },
}  # fmt: skip

TASKS = ("binary", "multiclass", "multilabel", "regression", "multioutput", "poisson")


def make_data(task):
    if task == "multiclass":
        X, y = load_digits(return_X_y=True)
        return X[:250] / 16, y[:250]
    if task == "multilabel":
        X, y = make_multilabel_classification(210, 8, n_classes=4, random_state=0)
        return X / X.std(), y
    X, y = make_classification(230, 9, random_state=1)
    if task == "binary":
        return X, np.array(["no", "yes"])[y]
    rng = np.random.default_rng(0)
    if task == "poisson":
        return X, rng.poisson(np.exp(0.3 * X[:, 0])).astype(float)
    targets = X[:, :3] @ rng.normal(size=(3, 3)) + rng.normal(size=(230, 3))
    return X, targets[:, 0] if task == "regression" else targets


def pair(task, **parameters):
    name = "MLPClassifier" if task in ("binary", "multiclass", "multilabel") else "MLPRegressor"
    if task == "poisson":
        parameters["loss"] = "poisson"
    parameters = {"hidden_layer_sizes": (7, 5), "random_state": 11, "max_iter": EPOCHS} | parameters
    return getattr(fastgd, name)(**parameters), getattr(sklearn.neural_network, name)(**parameters)


def assert_same(ours, theirs):
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=TOLERANCE)
    for mine, other in zip(
        ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True
    ):
        assert mine.dtype == other.dtype
        # Relative to the size of the array: a parameter near 0 has no digits of its own.
        np.testing.assert_allclose(mine, other, rtol=TOLERANCE, atol=TOLERANCE * abs(other).max())
    for name in ("t_", "n_iter_", "n_layers_", "n_outputs_", "out_activation_"):
        assert getattr(ours, name) == getattr(theirs, name)
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=TOLERANCE)
    for name in ("best_loss_", "best_validation_score_"):
        if getattr(theirs, name, None) is None:
            assert getattr(ours, name) is None
        else:
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=TOLERANCE)
    if theirs.validation_scores_ is not None:
        np.testing.assert_allclose(
            ours.validation_scores_, theirs.validation_scores_, rtol=TOLERANCE
        )


def fit_both(task, X, y, sample_weight=None, **parameters):
    ours, theirs = pair(task, **parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours.fit(X, y, sample_weight=sample_weight)
        theirs.fit(X, y, sample_weight=sample_weight)
    return ours, theirs


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_and_activations(optimizer, activation):
    X, y = make_data("multiclass")
    assert_same(*fit_both("multiclass", X, y, activation=activation, **OPTIMIZERS[optimizer]))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["dense", "csr", "csc"])
@pytest.mark.parametrize("optimizer", ["adam", "nesterov"])
@pytest.mark.parametrize("task", TASKS)
def test_tasks(task, optimizer, kind, weighted):
    X, y = make_data(task)
    X = X if kind == "dense" else scipy.sparse.csr_array(X).asformat(kind)
    weight = np.random.default_rng(4).uniform(0.1, 3.0, len(y)) if weighted else None
    ours, theirs = fit_both(task, X, y, weight, batch_size=32, **OPTIMIZERS[optimizer])
    assert_same(ours, theirs)
    np.testing.assert_allclose(
        np.asarray(ours.predict(X) == theirs.predict(X)).mean()
        if hasattr(ours, "classes_")
        else ours.predict(X) / theirs.predict(X),
        1.0,
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    "change",
    [lambda y: 2 * y, lambda y: y.astype(bool), lambda y: 0.0 + y, scipy.sparse.csr_array, list],
    ids=["twos", "booleans", "floats", "sparse", "list"],
)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_label_is_whatever_is_not_0(change, early_stopping):
    X, y = make_data("multilabel")
    ours, theirs = fit_both("multilabel", X, change(y), early_stopping=early_stopping)
    assert_same(ours, theirs)
    assert abs(ours.predict(X) - theirs.predict(X)).max() == 0  # both sparse, or both dense
    # Later on single labels, too, are taken as scikit-learn takes them.
    for estimator in (ours, theirs):
        estimator.set_params(warm_start=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(X, y.argmax(axis=1))
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=TOLERANCE)


def test_a_label_of_a_validation_set_or_with_a_weight_is_whatever_is_not_0():
    X, y = make_data("multilabel")
    of = [{0: 1.0, 1: 2.0}] * y.shape[1]
    models = [fastgd.MLPClassifier(max_iter=3, random_state=0, class_weight=of) for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for model, factor in zip(models, (1, 2), strict=True):
            model.fit(X, factor * y, X_val=X[:50], y_val=factor * y[:50])
    for name in ("loss_curve_", "validation_loss_curve_", "validation_scores_"):
        np.testing.assert_array_equal(*(getattr(model, name) for model in models))


def test_labels_are_not_negative():
    X, y = make_data("multilabel")
    model, _ = pair("multilabel")
    message = r"Labels in columns .* got y with numbers from -1 to 1"
    with pytest.raises(ValueError, match=message):
        model.fit(X, 2 * y - 1)
    with pytest.raises(ValueError, match=message):
        model.fit(X, y, X_val=X, y_val=2 * y - 1)
    assert not hasattr(model, "classes_")


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_early_stopping(task, weighted):
    X, y = make_data(task)
    weight = np.random.default_rng(4).uniform(0.1, 3.0, len(y)) if weighted else None
    assert_same(*fit_both(task, X, y, weight, early_stopping=True, tol=0.05, n_iter_no_change=2))


@pytest.mark.parametrize("parameters", [
    {"shuffle": False}, {"batch_size": 1}, {"batch_size": 250}, {"alpha": 0.0}, {"alpha": 3.0},
    {"hidden_layer_sizes": (4, 5, 6, 5)}, {"hidden_layer_sizes": 3},
], ids=str)  # fmt: skip
def test_other_parameters(parameters):
    X, y = make_data("multiclass")
    assert_same(*fit_both("multiclass", X, y, **parameters))


@pytest.mark.parametrize("optimizer", ["adam", "nesterov", "invscaling"])
@pytest.mark.parametrize("task", TASKS)
def test_partial_fit_and_then_fit(task, optimizer):
    X, y = make_data(task)
    both = pair(task, **OPTIMIZERS[optimizer])
    classes = {}
    if task in ("binary", "multiclass", "multilabel"):
        classes["classes"] = np.unique(y) if y.ndim == 1 else np.arange(y.shape[1])
    for part in (slice(0, 90), slice(90, 200), slice(0, 90)):
        for estimator in both:
            estimator.partial_fit(X[part], y[part], **classes)
        assert_same(*both)
    for estimator in both:
        estimator.set_params(warm_start=True)
        with pytest.warns(ConvergenceWarning):
            estimator.fit(X, y)
    assert_same(*both)


def test_float32_stays_close():
    X, y = make_data("multiclass")
    ours, theirs = fit_both("multiclass", X.astype(np.float32), y)
    assert {a.dtype for a in ours.coefs_ + ours.intercepts_} == {np.dtype(np.float32)}
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-5)
    assert ours.predict_proba(X.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression", "poisson"])
def test_lbfgs(task):
    """L-BFGS amplifies rounding, so a few iterations have to do."""
    X, y = make_data(task)
    ours, theirs = fit_both(task, X, y, solver="lbfgs")
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=TOLERANCE)
    assert len(ours.loss_curve_) == ours.n_iter_
    for mine, other in zip(ours.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-7, atol=1e-8)
