"""The objective as a function: its curvature, its residuals, and what it does for an estimator."""

import copy
import gc
import itertools
import json
import pickle
import tracemalloc
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError

import naive
from fastgd import MLPClassifier, MLPRegressor, solvers
from fastgd._record import checked
from fastgd.kernels import samples
from fastgd.kernels.activations import ACTIVATIONS
from fastgd.kernels.layout import layer_table
from fastgd.kernels.losses import LOSSES, identity_link, sum_pointwise
from fastgd.kernels.tiles import HAS_TILES
from fastgd.neural_network.prediction import Predictor
from fastgd.neural_network.problem import Problem, as_data
from fastgd.optimizers import SGD
from threads import several_threads

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FOLDER = Path(__file__).parent / "recorded"
GRADIENTS, HESSIANS = np.load(FOLDER / "gradients.npz"), np.load(FOLDER / "hessians.npz")
CASES = json.loads(str(GRADIENTS["cases"]))
# PyTorch's names of the losses, where they are others.
OURS = {"log_loss": "categorical_log_loss", "multilabel": "binary_log_loss"}
OURS |= {"hinge_multiclass": "categorical_hinge"}
FIELDS = {"huber": {"delta": 0.7}, "quantile": {"quantile": 0.3}}
KINDS = ("dense", "csr")


class LogCosh(NamedTuple):
    """A user's loss that does not know its second derivative."""

    scale: float = 1.0
    out_activation = "identity"
    link = identity_link
    value_and_delta = sum_pointwise

    def pointwise(self, z, y):
        r = (z - y) / self.scale
        return np.log(np.cosh(r)), np.tanh(r) / self.scale


def make_targets(name, rng, n, k):
    """Targets (n, k), or (n, 1) class numbers, as a loss wants them."""
    if name in ("binary_log_loss", "hinge"):
        return rng.integers(0, 2, (n, k))
    if name in ("categorical_log_loss", "categorical_hinge"):
        return rng.integers(0, k, (n, 1))
    if name == "kl_divergence":
        return rng.dirichlet(np.ones(k), n)
    return rng.poisson(2.0, (n, k)) if name == "poisson" else rng.normal(size=(n, k))


def make_objective(
    name="squared_error", hidden=("tanh", "gelu"), n=7, k=3, weighted=False, alpha=0.3,
    kind="dense", dtype=np.float64, seed=0, n_features=5, widths=(4, 3, 6), n_jobs=1,
):  # fmt: skip
    """The objective of a small network on random samples; ``hidden`` names its activations."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, n_features)) * (rng.random((n, n_features)) < 0.6)
    X = X.astype(dtype)
    weight = rng.uniform(0.2, 2.0, n) if weighted else None
    if weighted:
        weight[1:2] = 0.0
    loss = LOSSES[name](**FIELDS.get(name, {})) if isinstance(name, str) else name
    y = make_targets(name, rng, n, k)
    y = y.astype(np.int64 if getattr(loss, "class_numbers", False) else dtype)
    X = scipy.sparse.csr_array(X) if kind == "csr" else X
    layers = layer_table((n_features, *widths[: len(hidden)], k), tuple(hidden))
    problem = Problem(layers, loss, alpha, as_data(X, y, weight), n, np.dtype(dtype), n_jobs)
    return problem.objective()


def vectors(f, how_many=2, seed=1):
    """Random parameters, directions, ..."""
    return np.random.default_rng(seed).normal(size=(how_many, f.n_parameters))


def along(function, w, v, step=1e-5):
    """Central difference of a function along a direction."""
    return (function(w + step * v) - function(w - step * v)) / (2 * step)


def assert_close(actual, expected, tolerance):
    """Relative to the largest entry."""
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


# Curvature.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", sorted({case["loss"] for case in CASES}))
def test_products_of_double_backward(loss, kind):
    X = scipy.sparse.csr_array(GRADIENTS["X"]) if kind == "csr" else GRADIENTS["X"]
    for case in (case for case in CASES if case["loss"] == loss):
        instance = checked(LOSSES[OURS.get(loss, loss)](**case["loss_fields"]))
        weight = GRADIENTS["sample_weight"] if case["weighted"] else None
        y, k = GRADIENTS[f"y_{loss}"], case["n_outputs"]
        y = y.reshape(len(y), -1)
        y = y.astype(np.int64 if getattr(instance, "class_numbers", False) else np.float64)
        layers = layer_table((5, 4, 3, k), tuple(case["activation"]))
        alpha = float(GRADIENTS["alpha"])
        problem = Problem(layers, instance, alpha, as_data(X, y, weight), len(y), X.dtype)
        product = problem.objective().hessp(GRADIENTS[f"w_K{k}"], HESSIANS[f"v_K{k}"])
        assert_allclose(product, HESSIANS[case["key"] + "_product"], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LOSSES)
def test_differences_of_the_gradient(name, kind, weighted):
    for hidden in ((), ("logistic",), ("tanh", "gelu"), ("silu", "softplus", "elu")):
        f = make_objective(name, hidden, weighted=weighted, kind=kind)
        w, v = vectors(f)
        assert_close(f.hessp(w, v), along(f.grad, w, v), 1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_differences_away_from_kinks(activation):
    """A kink within a step would show as a jump of the gradient, of the size of 1 / step."""
    f = make_objective("huber", (activation,) * 2)
    w, v = vectors(f)
    assert np.isfinite(f.hessp(w, v)).all()
    assert_close(f.hessp(w, v), along(f.grad, w, v, 1e-6), 1e-6)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "selu"])
def test_kinks_have_the_curvature_of_a_side(activation):
    """With all parameters 0 every raw value lies on a kink."""
    f = make_objective(hidden=(activation,) * 2)
    w, v = np.zeros(f.n_parameters), vectors(f)[0]
    assert np.isfinite(f.hessp(w, v)).all()
    assert np.isfinite(f.gauss_newton_product(w, v)).all()


@st.composite
def objectives(draw):
    """Random networks of any depth, on random samples."""
    depth = draw(st.integers(0, 3))
    name = draw(st.sampled_from(list(LOSSES)))
    return make_objective(
        name,
        hidden=draw(st.lists(st.sampled_from(list(ACTIVATIONS)), min_size=depth, max_size=depth)),
        n=draw(st.integers(1, 70)),
        k=draw(st.sampled_from([2, 3, 33] if "categorical" in name else [1, 2, 3, 33])),
        weighted=draw(st.booleans()),
        alpha=draw(st.sampled_from([0.0, 1e-4, 1.0])),
        kind=draw(st.sampled_from(KINDS)),
        seed=draw(st.integers(0, 1000)),
        widths=draw(st.tuples(*[st.integers(1, 9)] * 3)),
    )


@settings(max_examples=40, deadline=None)
@given(objectives())
def test_hessian_is_symmetric(f):
    w, u, v = vectors(f, 3)
    for product in (f.hessp, f.gauss_newton_product):
        of_u, of_v = product(w, u), product(w, v)
        size = np.abs(u) @ np.abs(of_v) + np.abs(v) @ np.abs(of_u)
        assert abs(u @ of_v - v @ of_u) <= 1e-12 * size


@settings(max_examples=40, deadline=None)
@given(objectives())
def test_gauss_newton_is_positive_semidefinite(f):
    """All our losses are convex."""
    w, v = vectors(f)
    product = f.gauss_newton_product(w, v)
    assert v @ product >= -1e-12 * (np.abs(v) @ np.abs(product))


@pytest.mark.parametrize("hidden", [(), ("tanh", "gelu")])
@pytest.mark.parametrize("name", LOSSES)
def test_gauss_newton_is_made_of_its_factors(name, hidden):
    """Jᵀ H J v with the derivatives J of the raw outputs, and H of the loss by them."""
    f = make_objective(name, hidden, weighted=True)
    w, v = vectors(f)
    network = make_objective(hidden=hidden, alpha=0.0)
    network.data.y[:] = 0.0
    root = np.sqrt(network.n_samples)
    z, J = root * network.residuals(w), root * network.jac(w)
    # A network that has each sample's raw outputs as its weights.
    layers, zeros = layer_table((7, 3), ()), np.zeros(3)
    data = as_data(np.eye(7), f.data.y, f.data.weight)
    of_outputs = Problem(layers, f.loss, 0.0, data, 7, f.dtype).objective()
    bent = of_outputs.hessp(np.append(z, zeros), np.append(J @ v, zeros))[: z.size]
    expected = J.T @ bent
    n_weights = f.layers["biases"][0]
    expected[:n_weights] += f.alpha / f.data.weight.sum() * v[:n_weights]
    assert_close(f.gauss_newton_product(w, v), expected, 1e-13)


@pytest.mark.parametrize("hidden", [(), ("tanh", "gelu")])
@pytest.mark.parametrize("name", ["squared_error", "poisson", "categorical_log_loss"])
def test_hess_is_all_products(name, hidden):
    f = make_objective(name, hidden)
    w = vectors(f)[0]
    H = f.hess(w)
    products = np.stack([f.hessp(w, e) for e in np.eye(f.n_parameters)])
    assert_array_equal(H, H.T)
    assert_close(H, products, 1e-14)


# Least squares.

SQUARES = list(itertools.product([(), ("tanh", "gelu")], KINDS, [False, True], [0.0, 0.3]))


@pytest.mark.parametrize(("hidden", "kind", "weighted", "alpha"), SQUARES)
def test_residuals_and_jacobian(hidden, kind, weighted, alpha):
    for n, k in ((7, 3), (1, 1), (90, 2)):
        f = make_objective(
            hidden=hidden, n=n, k=k, kind=kind, weighted=weighted, alpha=alpha, n_features=5
        )
        w, v = vectors(f)
        r, J = f.residuals(w), f.jac(w)
        n_weights = int(f.layers["biases"][0])
        assert r.shape == (n * k + (n_weights if alpha else 0),)
        assert J.shape == (r.size, f.n_parameters)
        assert_allclose(0.5 * r @ r, f.fun(w), rtol=1e-13)
        assert_close(J.T @ r, f.grad(w), 1e-13)
        assert_close(J.T @ (J @ v), f.gauss_newton_product(w, v), 1e-13)
        assert_close(J @ v, along(f.residuals, w, v), 1e-8)
        fun, grad, matrix = f.normal_equations(w)
        assert fun == f.fun(w)
        assert_array_equal(grad, f.grad(w))
        assert_close(np.tril(matrix), np.tril(J.T @ J), 1e-13)


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_entries_of_csr_that_occur_twice(index):
    """They count as their sum; a row may also be empty, or not sorted."""
    indptr, indices = np.array([0, 3, 3, 7], index), np.array([4, 1, 4, 0, 2, 0, 0], index)
    X = scipy.sparse.csr_array((np.arange(1.0, 8.0), indices, indptr), shape=(3, 5))
    assert not X.has_canonical_format
    y = np.arange(6.0).reshape(3, 2)
    layers = layer_table((5, 4, 2), ("tanh",))
    sparse, dense = (
        Problem(layers, LOSSES["squared_error"](), 0.1, as_data(A, y, None), 3, A.dtype).objective()
        for A in (X, X.toarray())
    )
    assert sparse.data.X.indices.dtype == index
    w, v = vectors(dense)
    for name, *arguments in everything(w, v):
        assert_close(getattr(sparse, name)(*arguments), getattr(dense, name)(*arguments), 1e-14)
    assert_close(*(np.tril(f.normal_equations(w).matrix) for f in (sparse, dense)), 1e-14)


def everything(w, v):
    """The methods whose results are arrays, with their arguments."""
    return [
        ("grad", w), ("hessp", w, v), ("gauss_newton_product", w, v), ("hess", w),
        ("residuals", w), ("jac", w),
    ]  # fmt: skip


@pytest.mark.parametrize("name", set(LOSSES) - {"squared_error"})
def test_only_the_squared_error_has_residuals(name):
    f = make_objective(name)
    for method in (f.residuals, f.jac, f.normal_equations):
        with pytest.raises(ValueError, match=f"the loss is {type(f.loss).__name__}"):
            method(f.x0)


# Blocks, threads and precision.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_many_blocks(kind, weighted, monkeypatch):
    """Blocks of 64 rows, and of 16 for the Jacobian, with a smaller one at the end."""
    n = 333
    whole = make_objective(n=n, weighted=weighted, kind=kind)
    w, v = vectors(whole)
    expected = [getattr(whole, name)(*arguments) for name, *arguments in everything(w, v)]
    matrix = np.tril(whole.normal_equations(w).matrix)
    monkeypatch.setattr("fastgd.kernels.samples.BLOCK_BYTES", 1)
    monkeypatch.setattr("fastgd.solvers.objective.JACOBIAN_BYTES", 1)
    f = make_objective(n=n, weighted=weighted, kind=kind)
    assert f._plans[0]["rows"] == 64
    assert f._least_squares_plans[0]["rows"] == 16
    for (name, *arguments), result in zip(everything(w, v), expected, strict=True):
        assert_close(getattr(f, name)(*arguments), result, 1e-13)
    assert_close(np.tril(f.normal_equations(w).matrix), matrix, 1e-13)


@pytest.mark.parametrize("method", ["hessp", "gauss_newton_product", "normal_equations", "grad"])
def test_memory_is_that_of_blocks(method):
    """However many samples there are; the residuals of the normal equations are N K numbers."""
    peaks = []
    for n in (100_000, 200_000):
        f = make_objective(n=n, k=1, n_features=3)
        w, v = vectors(f)
        tracemalloc.start()
        f = copy_of(f)
        arguments = (w, v) if "product" in method or method == "hessp" else (w,)
        getattr(f, method)(*arguments)
        own = 8 * n if method == "normal_equations" else 0
        peaks.append(tracemalloc.get_traced_memory()[1] - own)
        tracemalloc.stop()
    assert f._plans[0]["rows"] < n / 4
    # Units, derivatives, their changes: a handful of blocks, and one of the Jacobian.
    of_jacobian = solvers.objective.JACOBIAN_BYTES if method == "normal_equations" else 0
    assert peaks[1] < 6 * samples.BLOCK_BYTES + of_jacobian
    assert abs(peaks[1] - peaks[0]) < 0.1 * samples.BLOCK_BYTES


def copy_of(f):
    """The same objective with buffers of its own."""
    return type(f)(f.layers, f.data, f.n_samples, f.loss, f.alpha, f.dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block_bytes", [2**22, 1])
def test_same_bits_for_any_number_of_threads(block_bytes, kind, dtype, monkeypatch):
    """Also where the last block is smaller, so that its rows are shared in another way."""
    monkeypatch.setattr("fastgd.kernels.samples.BLOCK_BYTES", block_bytes)
    monkeypatch.setattr("fastgd.solvers.objective.JACOBIAN_BYTES", block_bytes)
    expected = of_a_team(1, kind, dtype)
    for n_jobs in (2, 2, 2, 3, 4):  # a race is not lost every time
        for name, result in of_a_team(n_jobs, kind, dtype).items():
            assert_array_equal(result, expected[name], err_msg=f"{name}, {n_jobs} threads")


def of_a_team(n_jobs, kind, dtype):
    """What does not depend on the number of threads; the value, which is a sum, does."""
    with several_threads() as sizes:
        f = make_objective(
            n=90, weighted=True, kind=kind, dtype=dtype, n_features=30, widths=(24, 20),
            n_jobs=n_jobs,
        )  # fmt: skip
        w, v = 0.3 * vectors(f)
        results = {
            "hessp": f.hessp(w, v),
            "gauss_newton_product": f.gauss_newton_product(w, v),
            "normal_equations": np.tril(f.normal_equations(w).matrix),
            "jac": f.jac(w),
            "residuals": f.residuals(w),
        }
    assert set(sizes) == {n_jobs if HAS_TILES else 1}
    return results


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_float32_agrees_with_float64(name, activation):
    single, double = (
        make_objective(name, (activation,) * 2, n=20, dtype=dtype)
        for dtype in (np.float32, np.float64)
    )
    w, v = vectors(double).astype(np.float32).astype(np.float64)
    for method in ("hessp", "gauss_newton_product"):
        product = getattr(single, method)(w, v)
        assert product.dtype == np.float64
        assert_close(product, getattr(double, method)(w, v), 1e-5)


@pytest.mark.parametrize("n", [3, 1000, 10_007])
def test_float32_losses_are_exact_means(n):
    """What rounding 1 / n does to all weights alike is not in the mean; here each loss is 1."""
    f = MLPClassifier((), loss="hinge").objective(np.ones((n, 1), np.float32), np.arange(n) % 2)
    assert_allclose(f.terms(np.zeros(2))[0], 1.0, rtol=1e-13)


def test_float32_least_squares():
    single, double = (make_objective(n=20, dtype=dtype) for dtype in (np.float32, np.float64))
    w = vectors(double)[0].astype(np.float32)
    for method in ("residuals", "jac", "hess", "grad"):
        result = getattr(single, method)(w)
        assert result.dtype == np.float64
        assert_close(result, getattr(double, method)(w), 1e-5)
    ours, theirs = single.normal_equations(w), double.normal_equations(w)
    assert_allclose(ours.fun, theirs.fun, rtol=1e-5)
    assert_close(np.tril(ours.matrix), np.tril(theirs.matrix), 1e-5)


# What is counted, what is remembered, what is refused.


def test_counts():
    f = make_objective()
    w, v = vectors(f)
    assert set(f.counts.values()) == {0}
    calls = [
        ("fun", 1, w), ("terms", 1, w), ("fun_and_grad", 1, w), ("grad", 0, w), ("grad", 1, v),
        ("hessp", 1, w, v), ("gauss_newton_product", 1, w, v), ("hess", f.n_parameters, w),
        ("residuals", 1, w), ("jac", 1, w), ("normal_equations", 2, w), ("normal_equations", 1, w),
    ]  # fmt: skip
    for name, n_passes, *arguments in calls:
        before = f.n_passes
        getattr(f, name)(*arguments)
        assert f.n_passes - before == n_passes, name
    assert f.counts == {
        "fun": 2, "fun_and_grad": 3, "hessp": 1, "gauss_newton_product": 1, "hess": 1,
        "residuals": 1, "jac": 1, "normal_equations": 2,
    }  # fmt: skip


def test_the_last_gradient_is_remembered_for_its_parameters_only():
    f, other = make_objective(), make_objective()
    w, v = vectors(f)
    first = f.grad(w)
    kept = first.copy()
    for name, *arguments in everything(v, w)[1:]:
        getattr(f, name)(*arguments)
    f.fun(v)
    assert_array_equal(f.grad(w), kept)
    w += 1.0  # in place: the same array, other parameters
    assert_array_equal(f.grad(w), other.grad(w))
    assert_array_equal(first, kept)


METHODS = ["fun", "grad", "fun_and_grad", "terms", "residuals", "jac", "normal_equations", "hess"]


@pytest.mark.parametrize("method", METHODS)
def test_wrong_shape_of_parameters(method):
    f = make_objective()
    for shape in ((f.n_parameters + 1,), (f.n_parameters, 1), (0,)):
        with pytest.raises(ValueError, match=rf"w must have the shape \(51,\), got .*{shape[0]}"):
            getattr(f, method)(np.zeros(shape))


@pytest.mark.parametrize("method", METHODS)
def test_complex_parameters(method):
    f = make_objective()
    with pytest.raises(ValueError, match="w must be real, got complex numbers"):
        getattr(f, method)(f.x0 + 0j)


@pytest.mark.parametrize("method", ["hessp", "gauss_newton_product"])
def test_wrong_shape_of_a_direction(method):
    f = make_objective()
    with pytest.raises(ValueError, match=r"w must have the shape \(51,\), got \(50,\)"):
        getattr(f, method)(f.x0[1:], f.x0)
    with pytest.raises(ValueError, match=r"v must have the shape \(51,\), got \(51, 1\)"):
        getattr(f, method)(f.x0, f.x0[:, None])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_nan_is_not_hidden(name, activation):
    f = make_objective(name, (activation,) * 2)
    good, v = vectors(f)
    for place in range(0, f.n_parameters, 7):
        w = good.copy()
        w[place] = np.nan
        assert np.isnan(f.hessp(w, v)).any()
        assert np.isnan(f.gauss_newton_product(w, v)).any()


@pytest.mark.parametrize("name", LOSSES)
def test_nan_in_a_direction_is_not_hidden(name):
    f = make_objective(name, alpha=0.0)
    w, good = vectors(f)
    for place in range(f.n_parameters):
        v = good.copy()
        v[place] = np.nan
        assert np.isnan(f.hessp(w, v)).any(), place
        assert np.isnan(f.gauss_newton_product(w, v)).any(), place


def test_nan_in_least_squares():
    f = make_objective()
    w = vectors(f)[0]
    w[3] = np.nan
    assert np.isnan(f.residuals(w)).any()
    assert np.isnan(f.jac(w)).any()
    fun, grad, matrix = f.normal_equations(w)
    assert np.isnan(fun)
    assert np.isnan(grad).any()
    assert np.isnan(np.tril(matrix)).any()


def test_loss_without_second_derivatives():
    f = make_objective(LogCosh(0.5))
    w, v = vectors(f)
    gradient = f.fun_and_grad(w)[1]
    assert abs(gradient @ v - along(f.fun, w, v)) < 1e-8 * np.abs(gradient) @ np.abs(v)
    for arguments in (("hessp", w, v), ("gauss_newton_product", w, v), ("hess", w)):
        with pytest.raises(ValueError, match="LogCosh has no method hessian_product"):
            getattr(f, arguments[0])(*arguments[1:])


def test_matrices_that_do_not_fit(monkeypatch):
    f = make_objective()
    free = types.SimpleNamespace(available=1000)
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    for method in (f.hess, f.jac):
        with pytest.raises(MemoryError, match=r"needs [\d,]+ bytes .* but 1,000 are available"):
            method(f.x0)
    f.residuals(f.x0)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
@pytest.mark.parametrize("method", ["hess", "jac"])
def test_matrices_take_no_more_than_was_asked_for(method, alpha, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "fastgd.solvers.objective.require_memory", lambda n_bytes, *_: asked.append(n_bytes)
    )
    f = make_objective(n=200, widths=(30, 20), alpha=alpha)
    getattr(f, method)(f.x0)  # makes its buffers
    tracemalloc.start()
    getattr(f, method)(f.x0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 1.05 * asked[-1] + 50_000  # for some vectors


# Other people's optimizers.

JAC = ("CG", "BFGS", "L-BFGS-B", "TNC", "SLSQP")
HESSP = ("Newton-CG", "trust-ncg", "trust-krylov", "trust-constr")
HESS = ("Newton-CG", "dogleg", "trust-ncg", "trust-krylov", "trust-exact", "trust-constr")
WAYS = [
    *((method, ()) for method in JAC),
    *((method, ("hessp",)) for method in HESSP),
    *((method, ("hess",)) for method in HESS),
]


def minimized(f, method, curvature, x0):
    ways = {name: getattr(f, name) for name in curvature}
    # SciPy's trust-krylov overflows in its own arithmetic where the gradient is nearly 0.
    tol = 1e-6 if method == "trust-krylov" else 1e-9
    return scipy.optimize.minimize(f.fun_and_grad, x0, jac=True, method=method, tol=tol, **ways)


@pytest.mark.parametrize(("method", "curvature"), WAYS)
def test_methods_of_scipy_agree_on_a_convex_problem(method, curvature):
    f = make_objective("binary_log_loss", (), n=60, k=2, weighted=True)
    result = minimized(f, method, curvature, f.x0)
    # A step of Newton's method from there, in the norm that the Hessian makes, is what is left.
    gradient = f.grad(result.x)
    left = 0.5 * gradient @ np.linalg.solve(f.hess(result.x), gradient)
    assert left < 1e-8 * result.fun
    assert result.fun < 0.95 * f.fun(f.x0)


@pytest.mark.parametrize(("method", "curvature"), [w for w in WAYS if w[0] != "dogleg"])
def test_methods_of_scipy_train_a_network(method, curvature):
    f = make_objective(hidden=("tanh",), n=40, weighted=True)
    x0 = vectors(f)[0]
    result = minimized(f, method, curvature, x0)
    assert np.abs(f.grad(result.x)).max() < 1e-3 * np.abs(f.grad(x0)).max()
    assert result.fun < 0.5 * f.fun(x0)


@pytest.mark.parametrize("method", ["trf", "dogbox", "lm"])
def test_least_squares_of_scipy(method):
    f = make_objective(hidden=("tanh",), n=40, weighted=True)
    x0 = vectors(f)[0]
    result = scipy.optimize.least_squares(f.residuals, x0, f.jac, method=method)
    assert result.success
    assert_allclose(result.cost, f.fun(result.x), rtol=1e-12)
    assert np.abs(f.grad(result.x)).max() < 1e-4 * np.abs(f.grad(x0)).max()


# Estimators.

RNG = np.random.default_rng(4)
X = RNG.normal(size=(60, 5))
WEIGHT = RNG.uniform(0.2, 2.0, 60)
TARGETS = {
    "numbers": X[:, 0],
    "several numbers": X[:, :2] ** 2,
    "two classes": np.where(X[:, 0] > 0, "yes", "no"),
    "classes": np.digitize(X[:, 1], [-0.5, 0.5]) + 3,
    "labels": (X[:, :3] > 0).astype(int),
}


def make_estimator(targets, **parameters):
    cls = MLPRegressor if "numbers" in targets else MLPClassifier
    parameters = {"solver": SGD(0.0), "max_iter": 1, "batch_size": 60, **parameters}
    return cls(hidden_layer_sizes=(6, 4), random_state=0, **parameters)


def flat(net):
    return np.concatenate([a.ravel() for a in net.coefs_ + net.intercepts_])


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["equal", "weighted"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("targets", TARGETS)
def test_where_a_fit_would_start(targets, kind, dtype, weight):
    """And its value there; a fit with steps of length 0 stays where it starts."""
    y, rows = TARGETS[targets], X.astype(dtype)
    rows = scipy.sparse.csr_array(rows) if kind == "csr" else rows
    fitted = make_estimator(targets).fit(rows, y, weight)
    net = make_estimator(targets)
    f = net.objective(rows, y, weight)
    assert f.x0.dtype == np.float64
    assert net.coefs_[0].dtype == f.dtype == dtype
    assert_array_equal(f.x0, flat(fitted))
    assert_array_equal(flat(net), flat(fitted))
    assert_array_equal(net.predict(rows), fitted.predict(rows))
    if targets != "several numbers":  # where scikit-learn reports the mean of the outputs
        assert_allclose(f.fun(f.x0), fitted.loss_curve_[0], rtol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("targets", TARGETS)
def test_value_is_that_of_the_formula(targets):
    y, net = TARGETS[targets], make_estimator(targets, activation="tanh", alpha=0.5)
    f = net.objective(X, y, WEIGHT)
    if "numbers" in targets:
        name, y = "squared_error", y.reshape(60, -1)
    elif targets == "classes":
        name, y = "categorical_log_loss", y - 3
    else:
        name, y = "binary_log_loss", (y == "yes")[:, None] if y.ndim == 1 else y
    sizes = (5, 6, 4, net.n_outputs_)
    w = vectors(f)[0]
    expected = naive.objective(w, sizes, ["tanh"] * 2, name, X, y, WEIGHT, 0.5)
    assert_allclose(f.fun(w), expected, rtol=1e-12)


def test_class_weights_and_no_dropout():
    y = TARGETS["classes"]
    plain = make_estimator("classes").objective(X, y, np.where(y == 3, 2.0, 1.0))
    f = make_estimator("classes", class_weight={3: 2.0}, dropout=0.5).objective(X, y)
    w, v = vectors(f)
    assert_array_equal(f.x0, plain.x0)
    assert_array_equal(f.fun_and_grad(w)[1], plain.fun_and_grad(w)[1])
    assert_array_equal(f.hessp(w, v), plain.hessp(w, v))


@pytest.mark.parametrize("targets", TARGETS)
def test_warm_start_goes_on_from_the_current_weights(targets):
    y = TARGETS[targets]
    net = make_estimator(targets, solver="adam", max_iter=3).fit(X, y)
    current = flat(net)
    assert_array_equal(net.set_params(warm_start=True).objective(X, y).x0, current)
    moved = net.set_weights(current + 0.25)
    assert_array_equal(moved.objective(X, y).x0, current + 0.25)
    assert_array_equal(flat(moved.set_params(solver=SGD(0.0)).fit(X, y)), current + 0.25)
    start = net.set_params(warm_start=False).objective(X, y)
    assert_array_equal(start.x0, make_estimator(targets).objective(X, y).x0)


def test_parameters_of_the_estimator_are_its_own():
    net = make_estimator("numbers")
    f = net.objective(X, TARGETS["numbers"])
    before = flat(net)
    f.x0 += 1.0
    assert_array_equal(flat(net), before)
    w = f.x0.copy()
    net.set_weights(w)
    w += 1.0
    assert_array_equal(flat(net), f.x0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("targets", TARGETS)
def test_set_weights(targets, dtype):
    net, rows = make_estimator(targets), X.astype(dtype)
    f = net.objective(rows, TARGETS[targets])
    net.predict(rows)  # is remembered, and has to be forgotten
    w = vectors(f)[0]
    assert net.set_weights(list(w)) is net
    assert net.coefs_[0].dtype == dtype
    assert_array_equal(flat(net), w.astype(dtype))
    outputs = Predictor(f.layers, w.astype(dtype), f.loss, 1).outputs(rows)
    ours = net.predict(rows) if "numbers" in targets else net.predict_proba(rows)
    expected = np.hstack([1 - outputs, outputs]) if targets == "two classes" else outputs
    assert_array_equal(ours.reshape(60, -1), expected)


def test_what_an_optimizer_found_goes_back():
    net = make_estimator("classes", activation="tanh", alpha=1e-3)
    y = TARGETS["classes"]
    f = net.objective(X, y)
    result = scipy.optimize.minimize(
        f.fun_and_grad, f.x0, jac=True, hessp=f.hessp, method="trust-ncg"
    )
    assert net.set_weights(result.x).score(X, y) > 0.95


def test_set_weights_refuses():
    net = make_estimator("numbers")
    with pytest.raises(NotFittedError):
        net.set_weights(np.zeros(69))
    f = net.objective(X, TARGETS["numbers"])
    before = flat(net)
    with pytest.raises(ValueError, match=r"w must have the shape \(69,\), got \(68,\)"):
        net.set_weights(f.x0[1:])
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="w must be finite"):
            net.set_weights(np.append(f.x0[1:], bad))
    assert_array_equal(flat(net), before)


def state(net):
    """Which objects an estimator holds."""
    return {
        name: [*map(id, value)] if isinstance(value, list) else id(value)
        for name, value in vars(net).items()
    }


BAD = {
    "X must not be NaN": (np.full((60, 4), np.nan), np.ones(60), None),
    "y must not be negative": (X[:, :4], -np.ones(60), None),
    "y must be as long": (X[:, :4], np.ones(59), None),
    "weights must not be negative": (X[:, :4], np.ones(60), -WEIGHT),
}


@pytest.mark.parametrize("reason", BAD)
def test_an_objective_that_fails_leaves_the_estimator_as_it_was(reason):
    y = TARGETS["several numbers"]
    net = make_estimator("numbers", loss="poisson", solver="adam", max_iter=3).fit(X, y)
    before, predictions = state(net), net.predict(X)
    with pytest.raises(ValueError):
        net.objective(*BAD[reason])
    net.alpha, alpha = -1.0, net.alpha
    with pytest.raises(ValueError, match="alpha"):
        net.objective(X[:, :4], y)
    net.alpha = alpha
    assert state(net) == before
    assert_array_equal(net.predict(X), predictions)


def test_an_objective_of_other_features_needs_a_new_start():
    y = TARGETS["numbers"]
    net = make_estimator("numbers", warm_start=True).fit(X, y)
    before = state(net)
    with pytest.raises(ValueError, match="features"):
        net.objective(X[:, :4], y)
    assert state(net) == before
    assert net.set_params(warm_start=False).objective(X[:, :4], y).layers["n_in"][0] == 4


# Copies, other processes, other threads.


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f))])
def test_a_copy_stands_for_itself(copied):
    """Its buffers are its own: the original may be gone, or at work elsewhere."""
    f = make_objective()
    w, v = vectors(f)
    expected = f.fun_and_grad(w), f.hessp(w, v)
    g = copied(f)
    assert g.counts == f.counts
    np.testing.assert_array_equal(g.x0, f.x0)
    f.fun_and_grad(2 * w)
    del f
    gc.collect()
    noise = [np.ones(10_000) for _ in range(50)]  # where freed buffers would be
    (value, gradient), product = g.fun_and_grad(w), g.hessp(w, v)
    assert value == expected[0][0]
    np.testing.assert_array_equal(gradient, expected[0][1])
    np.testing.assert_array_equal(product, expected[1])
    assert len(noise) == 50


def test_other_processes_evaluate_it():
    f = make_objective()
    points = [f.x0 * scale for scale in (0.5, 1.0, 2.0)]
    values = joblib.Parallel(2)(joblib.delayed(f.fun)(w) for w in points)
    assert values == [f.fun(w) for w in points]


def test_threads_take_turns():
    f = make_objective(n=500)
    w, v = vectors(f)
    points = [w * scale for scale in np.linspace(0.5, 2, 40)]
    expected = [(f.fun_and_grad(x), f.hessp(x, v)) for x in points]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: (f.fun_and_grad(x), f.hessp(x, v)), points))
    for ((value, gradient), product), ((v0, g0), p0) in zip(found, expected, strict=True):
        assert value == v0
        np.testing.assert_array_equal(gradient, g0)
        np.testing.assert_array_equal(product, p0)
