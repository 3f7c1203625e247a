"""BFGS in O(n²): the iterates, counts, statuses and messages of SciPy's, which is the reference."""

import tracemalloc
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import OptimizeWarning, minimize, rosen, rosen_der
from sklearn.datasets import load_digits

from fastgd import MLPClassifier, MLPRegressor, minimize_bfgs
from fastgd.solvers.line_search import line_search, more_thuente

SAME = ("nit", "nfev", "njev", "status", "success", "message")
TOLERANCE = 1e-8
# The matrix is made of differences of gradients, which have fewer digits than gradients.
OF_MATRIX = 100 * TOLERANCE


def run(method, fun, x0, **parameters):
    """The result of a method, with all its iterates as ``path``."""
    path = [np.array(x0, float).ravel()]
    with warnings.catch_warnings():
        if method == "BFGS":  # it warns of overflows and of NaN
            warnings.simplefilter("ignore")
        result = minimize(fun, x0, method=method, callback=path.append, **parameters)
    result.path = np.array(path)
    return result


def both(fun, x0, **parameters):
    return [run(method, fun, x0, **parameters) for method in ("BFGS", minimize_bfgs)]


def assert_same_path(theirs, ours, tolerance):
    """Iterates are compared by the size of the largest, as a minimum may be at 0."""
    assert ours.path.shape == theirs.path.shape
    np.testing.assert_allclose(
        ours.path, theirs.path, rtol=0, atol=tolerance * np.abs(theirs.path).max()
    )


def assert_same(theirs, ours, tolerance=TOLERANCE, of_matrix=OF_MATRIX):
    assert [ours[name] for name in SAME] == [theirs[name] for name in SAME]
    assert_same_path(theirs, ours, tolerance)
    size = np.abs(theirs.hess_inv).max()
    np.testing.assert_allclose(ours.hess_inv, theirs.hess_inv, rtol=0, atol=of_matrix * size)
    np.testing.assert_array_equal(ours.hess_inv, ours.hess_inv.T)


# Networks.


@pytest.mark.parametrize(("n_hidden", "n_parameters", "maxiter"), [
    (8, 610, 30),
    (16, 1210, 10),  # an iteration of SciPy's takes 0.3 s, of the next one 2 s
    (32, 2410, 2),
])  # fmt: skip
def test_networks(n_hidden, n_parameters, maxiter):
    X, y = load_digits(return_X_y=True)
    f = MLPClassifier((n_hidden,), activation="tanh", random_state=0).objective(X / 16, y)
    assert f.n_parameters == n_parameters
    theirs, ours = both(f.fun_and_grad, f.x0, jac=True, options={"maxiter": maxiter})
    assert_same(theirs, ours, of_matrix=TOLERANCE)
    for ours_x, theirs_x in zip(ours.path, theirs.path, strict=True):
        assert np.linalg.norm(ours_x - theirs_x) <= 1e-8 * np.linalg.norm(theirs_x)


# Functions that are hard in ways of their own.


def beale_residuals(x):
    powers = x[1] ** np.arange(1, 4)
    return np.array([1.5, 2.25, 2.625]) - x[0] * (1 - powers)


def beale_der(x):
    k = np.arange(1, 4)
    J = np.column_stack([x[1] ** k - 1, x[0] * k * x[1] ** (k - 1)])
    return 2 * beale_residuals(x) @ J


def himmelblau_der(x):
    a, b = x[0] ** 2 + x[1] - 11, x[0] + x[1] ** 2 - 7
    return np.array([4 * x[0] * a + 2 * b, 2 * a + 4 * x[1] * b])


def quadratic(condition, n=8, seed=0):
    Q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))
    A = Q * np.geomspace(1 / condition, 1, n) @ Q.T
    return lambda x: x @ A @ x / 2, np.ones(n), lambda x: A @ x


SMOOTH = {
    "rosenbrock": (rosen, [-1.2, 1.0], rosen_der),
    "rosenbrock-4": (rosen, [-1.2, 1.0, -0.5, 0.8], rosen_der),
    "beale": (lambda x: (beale_residuals(x) ** 2).sum(), [1.0, 1.0], beale_der),
    "himmelblau": (
        lambda x: (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2,
        [0.0, 0.0],
        himmelblau_der,
    ),
    "condition 1e2": quadratic(1e2),
    "condition 1e6": quadratic(1e6),
    "condition 1e6, other axes": quadratic(1e6, seed=1),
    "on the ridge of a saddle": (
        lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4 / 4,
        [1.0, 0.0],
        lambda x: np.array([2 * x[0], x[1] ** 3 - 2 * x[1]]),
    ),
    "near a saddle": (
        lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4 / 4,
        [1.0, 1e-3],
        lambda x: np.array([2 * x[0], x[1] ** 3 - 2 * x[1]]),
    ),
    "at the minimum": (lambda x: x @ x, [0.0, 0.0], lambda x: 2 * x),
    "constant": (lambda x: 1.0, [1.0, 2.0], lambda x: 0 * x),
    "integers": (lambda x: (x**4).sum(), [3, -2], lambda x: 4 * x**3),
    "one number": (lambda x: (x[0] - 3.0) ** 2, 7.0, lambda x: 2 * (x - 3.0)),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_functions(name):
    fun, x0, jac = SMOOTH[name]
    theirs, ours = both(fun, x0, jac=jac)
    assert_same(theirs, ours)
    assert ours.success
    np.testing.assert_allclose(ours.jac, jac(ours.x), rtol=1e-12)


def test_long_run_differs_as_scipy_does_from_itself():
    """80 iterations amplify rounding 1e13 times: nothing but SciPy itself says what is much."""
    x0 = np.linspace(-1, 1, 10)
    theirs, ours = both(rosen, x0, jac=rosen_der)
    neighbour = run("BFGS", rosen, np.nextafter(x0, 2), jac=rosen_der)
    same = min(len(result.path) for result in (theirs, ours, neighbour))
    for result in (theirs, ours, neighbour):
        assert result.success
        result.path = result.path[:same]
    assert_same_path(theirs, ours, 10 * np.abs(neighbour.path - theirs.path).max())


def sphere(scale):
    return lambda x: scale * (x @ x), lambda x: 2 * scale * x


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e4, 1e6])
@pytest.mark.parametrize("n", [1, 3])
def test_steep_and_flat_functions(scale, n):
    """The first matrix is the identity, whatever the size of the second derivatives."""
    fun, jac = sphere(scale)
    assert_same(*both(fun, np.ones(n), jac=jac, options={"gtol": 1e-6 * scale}))


@pytest.mark.parametrize("scale", [1e12, 1e16])
def test_very_steep_parabola(scale):
    """In one dimension SciPy's first update is exact, whatever it replaces."""
    fun, jac = sphere(scale)
    gtol = 1e-6 * scale
    theirs, ours = both(fun, [1.0], jac=jac, options={"gtol": gtol})
    assert theirs.success
    assert ours.success
    assert np.abs(ours.jac).max() <= gtol


def test_curvature_that_leaves_nothing_of_the_first_matrix():
    """By e¹⁰⁰: what a rounding error keeps of the identity would be all of the matrix."""
    theirs, ours = both(lambda x: np.exp(x).sum(), [1.0, 100.0], jac=np.exp)
    assert theirs.success
    assert_same(theirs, ours)


def test_data_that_nobody_scaled():
    """One feature is a time in nanoseconds, say: 18 orders of magnitude between the curvatures."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3)) * [1, 1, 1e9] + [1, 1, 1e9]
    y = np.tanh(rng.normal(size=60))
    f = MLPRegressor(hidden_layer_sizes=(), alpha=0.5, random_state=0).objective(X, y)
    theirs, ours = both(f.fun_and_grad, f.x0, jac=True, tol=1e-6)
    assert theirs.success
    assert ours.success
    np.testing.assert_allclose(ours.fun, theirs.fun, rtol=1e-8)


# Line searches that fall back to another one, or fail.


def first_number(fun, jac):
    """A function of one number as a function of a vector."""
    return lambda x: fun(x[0]), lambda x: np.array([jac(x[0])])


def kink(weights):
    weights = np.array(weights)
    return (
        lambda x: float(weights @ np.abs(x)),
        [0.31, -0.7],
        lambda x: weights * np.sign(x),
    )


def of_one(x0, fun, jac):
    fun, jac = first_number(fun, jac)
    return fun, [x0], jac


STUBBORN = {
    "kink": kink([1.0, 1.0]),
    "another kink": kink([1.0, 2.0]),
    "gradient of the wrong sign": (lambda x: x @ x, [1.0, 2.0], lambda x: -2 * x),
    "gradient of the wrong size": (lambda x: x @ x, [1.0, 2.0], lambda x: 1e-3 * x),
    "NaN for negative numbers": of_one(
        30.0, lambda x: x**2 - np.sqrt(x), lambda x: 2 * x - 0.5 / np.sqrt(x)
    ),
    "step into NaN": of_one(0.5, lambda x: 10 * x - np.log(x), lambda x: 10 - 1 / x),
    "edge of a ball": (
        lambda x: x[0] - np.sqrt(1 - x @ x),
        [0.9, 0.1],
        lambda x: x / np.sqrt(1 - x @ x) + [1, 0],
    ),
    "line downhill": of_one(1.0, lambda x: -x, lambda x: -1.0),
    "cubic downhill": of_one(-1.0, lambda x: x**3, lambda x: 3 * x**2),
    "exponential downhill": of_one(1.0, lambda x: -np.exp(x), lambda x: -np.exp(x)),
    "value inf": (lambda x: np.inf, [1.0, 2.0], lambda x: 2 * x),
    "value -inf": (lambda x: -np.inf, [1.0, 2.0], lambda x: 2 * x),
    "value NaN": (lambda x: np.nan, [1.0, 2.0], lambda x: 2 * x),
    "gradient NaN": (lambda x: x @ x, [1.0, 2.0], lambda x: x * np.nan),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the functions themselves
@pytest.mark.parametrize("name", STUBBORN)
def test_stubborn_functions(name):
    fun, x0, jac = STUBBORN[name]
    theirs, ours = both(fun, x0, jac=jac)
    # After an infinite step SciPy's matrix is NaN; there is nothing to compare.
    if not np.isfinite(theirs.hess_inv).all():
        theirs.hess_inv = ours.hess_inv
    assert_same(theirs, ours)
    np.testing.assert_allclose(ours.fun, theirs.fun, atol=TOLERANCE)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_infinite_gradient_is_not_followed():
    """SciPy goes to NaN, with the same status; we stay."""
    theirs, ours = both(lambda x: x @ x, [1.0, 2.0], jac=lambda x: x * np.inf)
    assert ours.status == theirs.status
    np.testing.assert_array_equal(ours.x, [1.0, 2.0])


# Options.


@pytest.mark.parametrize("options", [
    {"maxiter": 0}, {"maxiter": 1}, {"maxiter": 5}, {"maxiter": None}, {"xrtol": 1e-2},
    {"xrtol": 1e-4}, {"norm": 1}, {"norm": 2}, {"norm": 3}, {"norm": -np.inf}, {"gtol": 1.0},
    {"gtol": 0.0}, {"gtol": 1e-3, "norm": 2}, {"c1": 0.1, "c2": 0.2}, {"c1": 1e-8, "c2": 0.99},
], ids=str)  # fmt: skip
def test_options(options):
    assert_same(*both(rosen, [-1.2, 1.0], jac=rosen_der, options=options))


def test_tol_is_gtol():
    theirs, ours = both(rosen, [-1.2, 1.0], jac=rosen_der, tol=1e-2)
    assert_same(theirs, ours)
    assert ours.nit < run(minimize_bfgs, rosen, [-1.2, 1.0], jac=rosen_der).nit


def test_args():
    def fun(x, a, b):
        return ((x - a) ** 2).sum() + b * (x**4).sum()

    def jac(x, a, b):
        return 2 * (x - a) + 4 * b * x**3

    args = np.array([1.0, -2.0]), 0.3
    assert_same(*both(fun, [3.0, 3.0], jac=jac, args=args))
    assert_same(*both(lambda *z: (fun(*z), jac(*z)), [3.0, 3.0], jac=True, args=args))


@pytest.mark.parametrize("x0", [[0.5, -0.3], [1e9, 2e9]], ids=str)
def test_finite_differences(x0):
    """Far from 0 an absolute step of 1.5e-8 does not change a number; SciPy then takes another.

    Differences amplify rounding 1e8 times, so only the first iterations are the same.
    """
    options = {"maxiter": 3, "gtol": 0.0}
    theirs, ours = both(
        lambda x, a: ((x / a - 3.0) ** 4).sum(), x0, args=(np.abs(x0).max(),), options=options
    )
    assert_same(theirs, ours, tolerance=1e-6, of_matrix=1e-4)


def test_disp(capsys):
    run(minimize_bfgs, rosen, [1.1, 1.0], jac=rosen_der, options={"disp": True})
    assert "terminated successfully" in capsys.readouterr().out


# Callbacks.


def stop_at(n, seen, takes_result):
    def with_result(intermediate_result):
        seen.append((intermediate_result.x, intermediate_result.fun))
        if len(seen) == n:
            raise StopIteration

    def with_vector(xk):
        with_result(scipy.optimize.OptimizeResult(x=xk, fun=rosen(xk)))

    return with_result if takes_result else with_vector


@pytest.mark.parametrize("maxiter", [3, 100], ids=["at maxiter", "before maxiter"])
@pytest.mark.parametrize("takes_result", [False, True])
def test_callback_stops(takes_result, maxiter):
    results, told = [], []
    for method in ("BFGS", minimize_bfgs):
        seen = []
        callback = stop_at(3, seen, takes_result)
        results.append(
            minimize(
                rosen, [-1.2, 1.0], jac=rosen_der, method=method, callback=callback,
                options={"maxiter": maxiter},
            )
        )  # fmt: skip
        told.append(seen)
    theirs, ours = results
    assert [ours[name] for name in SAME] == [theirs[name] for name in SAME]
    assert len(told[1]) == ours.nit == 3
    for (x, value), (their_x, their_value) in zip(*told, strict=True):
        np.testing.assert_allclose(x, their_x, rtol=1e-10)
        np.testing.assert_allclose(value, their_value, rtol=1e-10)


def test_what_callers_change_is_theirs():
    """A function, gradient or callback that writes into its argument does not disturb the run."""

    def spoilt(function):
        def call(x):
            result = np.copy(function(x))
            x[:] = 77.0
            return result

        return call

    x0 = np.array([-1.2, 1.0])
    clean = run(minimize_bfgs, rosen, x0, jac=rosen_der)
    result = minimize(
        spoilt(rosen), x0, jac=spoilt(rosen_der), method=minimize_bfgs, callback=spoilt(rosen)
    )
    np.testing.assert_array_equal(result.x, clean.x)
    np.testing.assert_array_equal(x0, [-1.2, 1.0])


def test_gradient_that_is_always_the_same_array():
    room = np.empty(2)

    def jac(x):
        room[:] = rosen_der(x)
        return room

    clean = run(minimize_bfgs, rosen, [-1.2, 1.0], jac=rosen_der)
    np.testing.assert_array_equal(run(minimize_bfgs, rosen, [-1.2, 1.0], jac=jac).path, clean.path)


# What it refuses.


@pytest.mark.parametrize(("parameters", "error", "message"), [
    ({"bounds": [(0, 1)] * 2}, ValueError, "cannot handle bounds"),
    ({"constraints": {"type": "eq", "fun": rosen}}, ValueError, "cannot handle constraints"),
    ({"options": {"c1": 0.5, "c2": 0.4}}, ValueError, "0 < c1 < c2 < 1, got c1=0.5 and c2=0.4"),
    ({"options": {"c1": 0.0}}, ValueError, "0 < c1 < c2 < 1"),
    ({"options": {"c2": 1.0}}, ValueError, "0 < c1 < c2 < 1"),
    ({"options": {"speed": 3, "eps": 1}}, OptimizeWarning, "Unknown solver options: speed, eps"),
    ({"hess": lambda x: np.eye(2)}, RuntimeWarning, r"second derivatives \(hess\)"),
    ({"hessp": lambda x, p: p}, RuntimeWarning, r"second derivatives \(hessp\)"),
], ids=str)  # fmt: skip
def test_what_it_cannot_do_is_said(parameters, error, message):
    with pytest.raises(error, match=message):
        minimize(rosen, [1.0, 2.0], jac=rosen_der, method=minimize_bfgs, **parameters)


@pytest.mark.parametrize(("fun", "jac", "message"), [
    (lambda x: x, rosen_der, r"must return a number, but returned the shape \(2,\)"),
    (rosen, lambda x: np.ones(3), "must have 2 elements like x0, but has 3"),
])  # fmt: skip
def test_functions_of_the_wrong_shape(fun, jac, message):
    with pytest.raises(ValueError, match=message):
        minimize(fun, [1.0, 2.0], jac=jac, method=minimize_bfgs)


def test_nothing_to_optimise():
    with pytest.raises(ValueError, match="x0 must have at least one element"):
        minimize(lambda x: 0.0, [], jac=lambda x: x, method=minimize_bfgs)


def test_too_many_parameters(monkeypatch):
    """Said before the matrix is allocated, and before the function is called."""
    n = 1000
    little = SimpleNamespace(available=16 * n * n - 1)
    monkeypatch.setattr("psutil.virtual_memory", lambda: little)

    def never(x):
        raise AssertionError

    tracemalloc.start()
    with pytest.raises(MemoryError, match=r"1000 parameters needs 16,000,000 bytes.*L-BFGS"):
        minimize(never, np.ones(n), jac=never, method=minimize_bfgs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * n * n / 10
    little.available += 1
    run(minimize_bfgs, lambda x: x @ x, np.ones(n), jac=lambda x: 2 * x)


# Properties.

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, n=st.integers(1, 12), condition=st.floats(0, 4).map(lambda e: 10**e))
def test_convex_quadratics(seed, n, condition):
    rng = np.random.default_rng(seed)
    fun, _, jac = quadratic(condition, n, seed)
    centre = rng.normal(size=n)
    theirs, ours = both(
        lambda x: fun(x - centre), rng.normal(size=n), jac=lambda x: jac(x - centre)
    )
    assert_same(theirs, ours)


def random_line(seed):
    """A function of one number, with its derivative: waves on a slope or in a valley."""
    rng = np.random.default_rng(seed)
    a, b, c, w, v = rng.normal(size=5) * 10 ** rng.uniform(-2, 2, 5)
    c = abs(c) if rng.random() < 0.8 else 0.0
    fun = lambda x: a * np.sin(w * x) + b * x + c * (x - v) ** 2  # noqa: E731
    jac = lambda x: a * w * np.cos(w * x) + b + 2 * c * (x - v)  # noqa: E731
    return fun, jac


def along_line(seed):
    """Arguments of a line search downhill, by a random step before it."""
    rng = np.random.default_rng(seed)
    fun, jac = first_number(*random_line(seed))
    x = rng.normal(size=1)
    g = jac(x)
    p = -g * 10 ** rng.uniform(-2, 2)
    value = fun(x)
    return fun, jac, x, p, g, value, value + 10 ** rng.uniform(-3, 3)


@settings(max_examples=300, deadline=None)
@given(seed=SEEDS, c1=st.floats(1e-6, 0.3), gap=st.floats(0.05, 0.65))
def test_line_search_finds_the_same_number(seed, c1, gap):
    from scipy.optimize._optimize import _line_search_wolfe12, _LineSearchError

    task = along_line(seed)
    conditions = {"c1": c1, "c2": c1 + gap}
    ours = line_search(*task, **conditions)
    try:
        theirs = _line_search_wolfe12(*task, amin=1e-100, amax=1e100, **conditions)
    except _LineSearchError:
        assert ours is None
        return
    step, value, gradient = ours
    assert (step, value) == (theirs[0], theirs[3])
    _, jac, x, p, *_ = task
    np.testing.assert_array_equal(gradient, jac(x + step * p))


@settings(max_examples=300, deadline=None)
@given(seed=SEEDS, step=st.floats(-3, 3).map(lambda e: 10**e), c2=st.floats(0.05, 0.95))
def test_more_and_thuente_find_the_same_number(seed, step, c2):
    """With the same evaluations on the way, and without SciPy's second attempt."""
    from scipy.optimize._dcsrch import DCSRCH

    fun, jac = random_line(seed)
    sign = -np.sign(jac(0.0))
    visits = [], []

    def noted(places, function):
        def call(step):
            places.append(float(step))
            return function(sign * step)

        return call

    slope_0 = -abs(jac(0.0))
    with warnings.catch_warnings(action="ignore"):
        search = DCSRCH(
            noted(visits[0], fun), lambda a: sign * jac(sign * a), 1e-4, c2, 1e-14, 1e-100, 1e100
        )
        theirs = search(step, phi0=fun(0.0), derphi0=slope_0)
        ours = more_thuente(
            noted(visits[1], fun), lambda a: sign * jac(sign * a), fun(0.0), slope_0, step, 1e-4, c2
        )
    assert (None if ours is None else ours[0]) == theirs[0]
    assert visits[1] == visits[0]
