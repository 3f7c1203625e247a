"""Forward pass, losses and gradients: PyTorch's autograd, finite differences, the formulas."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from scipy.special import log_softmax, softmax

import naive
from fastgd._record import checked
from fastgd.kernels.activations import ACTIVATIONS
from fastgd.kernels.layout import layer_table, n_parameters
from fastgd.kernels.losses import LOSSES
from fastgd.neural_network.prediction import Predictor
from fastgd.neural_network.problem import Problem, as_data

RECORDED = np.load(Path(__file__).parent / "recorded" / "gradients.npz")
CASES = json.loads(str(RECORDED["cases"]))
# PyTorch's names of the losses, where they are others.
OURS = {"log_loss": "categorical_log_loss", "multilabel": "binary_log_loss"}
OURS |= {"hinge_multiclass": "categorical_hinge"}
FIELDS = {"huber": {"delta": 0.7}, "quantile": {"quantile": 0.3}}


def make_problem(X, y, loss, activations, n_outputs, weight=None, alpha=0.3):
    sizes = (X.shape[1], 4, 3, n_outputs)[: len(activations) + 1] + (n_outputs,)
    layers = layer_table(sizes, tuple(activations))
    y = np.asarray(y)
    if getattr(loss, "class_numbers", False):
        y = y.reshape(-1, 1).astype(np.int64)
    else:
        y = y.reshape(len(y), -1).astype(X.dtype)
    return Problem(layers, loss, alpha, as_data(X, y, weight), X.shape[0], X.dtype)


def as_kind(X, kind):
    return scipy.sparse.csr_array(X) if kind == "csr" else X


@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("loss", sorted({case["loss"] for case in CASES}))
def test_autograd(loss, kind):
    cases = [case for case in CASES if case["loss"] == loss]
    assert len(cases) >= 2 * len(ACTIVATIONS)
    for case in cases:
        instance = checked(LOSSES[OURS.get(loss, loss)](**case["loss_fields"]))
        weight = RECORDED["sample_weight"] if case["weighted"] else None
        X = as_kind(RECORDED["X"], kind)
        problem = make_problem(
            X, RECORDED[f"y_{loss}"], instance, case["activation"], case["n_outputs"], weight,
            float(RECORDED["alpha"]),
        )  # fmt: skip
        w = RECORDED[f"w_K{case['n_outputs']}"]
        value, gradient = problem.objective().fun_and_grad(w)
        np.testing.assert_allclose(value, RECORDED[case["key"] + "_value"], rtol=1e-12)
        np.testing.assert_allclose(
            gradient, RECORDED[case["key"] + "_gradient"], rtol=1e-10, atol=1e-13
        )
        outputs = Predictor(problem.layers, w, instance, None).outputs(X)
        np.testing.assert_allclose(outputs, RECORDED[case["output_key"]], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("name", LOSSES)
def test_central_differences_and_formula(name, kind):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(7, 5)) * (rng.random((7, 5)) < 0.6)
    fields = FIELDS.get(name, {})
    loss = LOSSES[name](**fields)
    k = 3
    y = {
        "poisson": rng.poisson(2.0, (7, k)),
        "binary_log_loss": rng.integers(0, 2, (7, k)),
        "hinge": rng.integers(0, 2, (7, k)),
        "categorical_log_loss": rng.integers(0, k, 7),
        "categorical_hinge": rng.integers(0, k, 7),
        "kl_divergence": rng.dirichlet(np.ones(k), 7),
    }.get(name, rng.normal(size=(7, k)))
    weights = (None, rng.uniform(0.2, 2.0, 7))
    for activation, weight in itertools.product(ACTIVATIONS, weights):
        problem = make_problem(as_kind(X, kind), y, loss, [activation] * 2, k, weight)
        sizes = (5, 4, 3, k)
        w = rng.normal(size=n_parameters(problem.layers))
        objective = problem.objective()
        value, gradient = objective.fun_and_grad(w)
        expected = naive.objective(
            w, sizes, [activation] * 2, name, X, y, weight, problem.alpha, **fields
        )
        assert math.isclose(value, expected, rel_tol=1e-12), activation
        step = 1e-6
        numeric = np.empty_like(gradient)
        for i in range(w.size):
            e = np.zeros_like(w)
            e[i] = step
            numeric[i] = (objective.fun(w + e) - objective.fun(w - e)) / (2 * step)
        scale = np.abs(gradient).max()
        assert np.abs(numeric - gradient).max() <= 1e-6 * scale, (activation, weight is None)


@pytest.mark.parametrize("sizes", [(5, 2), (5, 3, 2), (5, 4, 3, 6, 2)])
def test_any_depth_in_blocks_of_rows(sizes, monkeypatch):
    """Also without a hidden layer, and when the rows do not fit into one block."""
    monkeypatch.setattr("fastgd.kernels.samples.BLOCK_BYTES", 1)
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(150, 5)), rng.normal(size=(150, 2))
    activations = ("tanh",) * (len(sizes) - 2)
    layers = layer_table(sizes, activations)
    problem = Problem(layers, LOSSES["squared_error"](), 0.1, as_data(X, y, None), 150, X.dtype)
    w = rng.normal(size=n_parameters(layers))
    expected = naive.objective(w, sizes, activations, "squared_error", X, y, None, 0.1)
    assert math.isclose(problem.objective().fun(w), expected, rel_tol=1e-12)
    _, gradient = problem.objective().fun_and_grad(w)
    for i in (0, w.size // 2, w.size - 1):
        e = np.zeros_like(w)
        e[i] = 1e-6
        numeric = (problem.objective().fun(w + e) - problem.objective().fun(w - e)) / 2e-6
        assert math.isclose(gradient[i], numeric, rel_tol=1e-5, abs_tol=1e-8)


def raw_loss(loss, z, y):
    """Value and derivative by the raw outputs, through a network that adds nothing to them."""
    z = np.atleast_2d(np.asarray(z))
    layers = layer_table((z.shape[1], z.shape[1]), ())
    y = np.asarray(y).reshape(1, -1)
    y = y.astype(np.int64 if getattr(loss, "class_numbers", False) else z.dtype)
    problem = Problem(layers, loss, 0.0, as_data(z, y, None), 1, z.dtype)
    k = z.shape[1]
    w = np.concatenate([np.eye(k, dtype=z.dtype).ravel(), np.zeros(k, z.dtype)])
    value, gradient = problem.objective().fun_and_grad(w)
    return value, gradient[k * k :]  # the biases see the derivative as it is


def test_binary_log_loss_of_extreme_outputs():
    for y in (0, 1):
        for i, z in enumerate(RECORDED["extreme_z"]):
            value, slope = raw_loss(LOSSES["binary_log_loss"](), [[z]], y)
            expected = RECORDED[f"extreme_binary_log_loss_y{y}_value"][i]
            np.testing.assert_allclose(value, expected, rtol=1e-14)
            expected = RECORDED[f"extreme_binary_log_loss_y{y}_derivative"][i]
            np.testing.assert_allclose(slope[0], expected, rtol=1e-14, atol=1e-15)


def test_categorical_log_loss_of_extreme_outputs():
    for y in range(3):
        for i, z in enumerate(RECORDED["extreme_logits"]):
            value, slope = raw_loss(LOSSES["categorical_log_loss"](), z, y)
            others = math.fsum(math.exp(x - z.max()) for x in np.delete(z, z.argmax()))
            np.testing.assert_allclose(value, z.max() - z[y] + math.log1p(others), rtol=1e-14)
            # PyTorch subtracts two numbers of the size of z, so it knows a small loss less well.
            recorded = RECORDED[f"extreme_log_loss_y{y}_value"][i]
            np.testing.assert_allclose(value, recorded, rtol=1e-14, atol=4e-16 * np.abs(z).max())
            expected = RECORDED[f"extreme_log_loss_y{y}_derivative"][i]
            np.testing.assert_allclose(slope, expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_rows", [1, 2, 3, 4, 5, 9, 70])
def test_categorical_log_loss_of_any_width(n_rows, dtype):
    """In registers or not, rows one by one or side by side: SciPy's softmax."""
    rng = np.random.default_rng(n_rows)
    info = np.finfo(dtype)
    for k in (*range(1, 36), 100):
        # Some rows have several largest outputs, some a class that is next to impossible.
        z = np.round(rng.normal(size=(n_rows, k)) * rng.choice([0.5, 3.0, 40.0], (n_rows, 1)))
        y, weight = rng.integers(0, k, n_rows), rng.uniform(0.5, 2.0, n_rows)
        weight[1:2] = 0.0
        # A network that has each sample's raw outputs as its weights.
        layers = layer_table((n_rows, k), ())
        data = as_data(np.eye(n_rows, dtype=dtype), y[:, np.newaxis], weight)
        loss = LOSSES["categorical_log_loss"]()
        problem = Problem(layers, loss, 0.0, data, n_rows, np.dtype(dtype))
        w = np.append(z, np.zeros(k)).astype(dtype)
        value, gradient = problem.objective().fun_and_grad(w)
        share = weight / weight.sum()
        expected = share @ -log_softmax(z, axis=1)[np.arange(n_rows), y]
        np.testing.assert_allclose(value, expected, rtol=20 * info.eps, atol=info.eps)
        slopes = softmax(z, axis=1)
        slopes[np.arange(n_rows), y] -= 1.0
        slopes *= share[:, np.newaxis]
        np.testing.assert_allclose(
            gradient[: z.size].reshape(z.shape), slopes, rtol=1e3 * info.eps, atol=8 * info.eps
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", set(LOSSES) - {"poisson", "squared_error"})
def test_losses_stay_finite(name, dtype):
    """Poisson's and the squared error's true values overflow; all others have to stay finite."""
    loss = LOSSES[name]()
    for z in ([1e30, -1e30, 0.0], [-1e30, 1e30, 5.0], [0.0, 0.0, 1e30]):
        y = 1 if getattr(loss, "class_numbers", False) else [0.0, 1.0, 0.0]
        value, slope = raw_loss(loss, np.array([z], dtype), y)
        assert np.isfinite(value)
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("name", LOSSES)
def test_nan_is_not_hidden(name):
    loss = LOSSES[name]()
    y = 1 if getattr(loss, "class_numbers", False) else [0.0, 1.0, 0.0]
    for place in range(3):
        z = np.array([[0.5, 0.2, 1.0]])
        z[0, place] = np.nan
        assert np.isnan(raw_loss(loss, z, y)[0])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_float32_agrees_with_float64(activation):
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(20, 5)), rng.normal(size=(20, 2))
    w = rng.normal(size=n_parameters(layer_table((5, 4, 3, 2), (activation,) * 2)))
    loss = LOSSES["squared_error"]()
    double = make_problem(X, y, loss, [activation] * 2, 2).objective().fun_and_grad(w)
    single = make_problem(X.astype(np.float32), y, loss, [activation] * 2, 2)
    value, gradient = single.objective().fun_and_grad(w)
    assert math.isclose(value, double[0], rel_tol=1e-5)
    np.testing.assert_allclose(gradient, double[1], atol=1e-5 * np.abs(double[1]).max())


def test_table_and_formulas_name_the_same():
    assert naive.ACTIVATIONS.keys() == ACTIVATIONS.keys()
    assert naive.LOSSES.keys() == LOSSES.keys()


def test_an_objective_checks_sizes_and_types():
    """Kernels work on addresses: a wrong size would read what is not there."""
    X, y = np.zeros((4, 5)), np.zeros((4, 1))
    layers = layer_table((5, 3, 1), ("tanh",))
    problem = Problem(layers, LOSSES["squared_error"](), 0.0, as_data(X, y, None), 4, X.dtype)
    with pytest.raises(ValueError, match=r"w must have the shape \(22,\), got \(3,\)"):
        problem.objective().fun(np.zeros(3))
    wrong = {
        "X must have": as_data(X.astype(np.float32), y, None),
        "y must have": as_data(X, y.astype(np.int32), None),
        "weight must have": as_data(X, y, np.ones(3)),
    }
    for message, data in wrong.items():
        with pytest.raises(ValueError, match=message):
            problem._replace(data=data).objective()
