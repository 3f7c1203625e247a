"""Every method that sees the whole objective, through the estimators: one table, the same promises.

A test goes over the table of solvers, so that a new one is tested by being there; what differs
between them stands in the few sets below.
"""

import signal
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import threadpoolctl
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from fastgd import MLPClassifier, MLPRegressor
from fastgd.neural_network import TrainingInterrupted
from fastgd.solvers import SOLVERS
from fastgd.solvers.box import MANY, search_box
from fastgd.solvers.cholesky import solve_definite
from fastgd.solvers.newton import newton_step

GLOBAL = {"differential-evolution", "dual-annealing"}
LEAST_SQUARES = {"levenberg-marquardt"}
WITH_HESSIAN = {"newton", "newton-cg", "trust-krylov", "trust-exact"}
# What they name as an alternative where their n × n matrices do not fit.
DENSE = {
    "bfgs": "lbfgs",
    "scipy-bfgs": "lbfgs",
    "newton": "newton-cg",
    "trust-exact": "trust-krylov",
    "levenberg-marquardt": "lbfgs",
    "differential-evolution": "lbfgs",
}
LOCAL = [name for name in SOLVERS if name not in GLOBAL]
FOR_CLASSES = [name for name in SOLVERS if name not in LEAST_SQUARES]
# All iterations are what annealing is asked for, not a failure to converge before.
CONVERGING = [name for name in SOLVERS if name != "dual-annealing"]

every_solver = pytest.mark.parametrize("solver", SOLVERS)
no_convergence_needed = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True, scope="module")
def one_blas_thread():
    """With vectors of ten numbers, threads only wait for each other."""
    with threadpoolctl.threadpool_limits(1, "blas"):
        yield


def make_data(n_samples=60, n_outputs=1, seed=0):
    """A smooth function of three numbers, with noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, 3))
    y = np.tanh(X @ rng.normal(size=(3, n_outputs))) + 0.1 * rng.normal(size=(n_samples, n_outputs))
    return X, y.squeeze(axis=1) if n_outputs == 1 else y


def regressor(solver, **parameters):
    return MLPRegressor(solver=solver, **{
        "hidden_layer_sizes": (2,), "activation": "tanh", "alpha": 0.01, "max_iter": 20,
        "tol": 1e-6, "random_state": 0,
    } | parameters)  # fmt: skip


def linear(solver, **parameters):
    """Without a hidden layer: ridge regression."""
    return regressor(
        solver,
        **{"hidden_layer_sizes": (), "alpha": 0.5, "max_iter": 300, "tol": 1e-6} | parameters,
    )


def flat(net):
    return np.concatenate([a.ravel() for a in net.coefs_ + net.intercepts_]).astype(np.float64)


def state(net):
    """What a fit has left behind, as something to compare."""
    return {name: repr(value) for name, value in vars(net).items() if name.endswith("_")}


# The minimum.


def ridge(X, y, alpha, weight):
    """Weights and biases of the penalised least squares; biases go without a penalty."""
    A = np.column_stack([X, np.ones(len(X))])
    penalty = np.diag([alpha] * X.shape[1] + [0.0])
    solution = np.linalg.solve(A.T * weight @ A + penalty, A.T * weight @ y.reshape(len(y), -1))
    return solution.ravel()


KINDS = {
    "dense": lambda X: X,
    "csr": scipy.sparse.csr_array,
    "float32": lambda X: X.astype(np.float32),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", LOCAL)
def test_minimum_of_ridge_regression(solver, kind, n_outputs, weighted):
    X, y = make_data(n_outputs=n_outputs)
    weight = np.random.default_rng(1).uniform(0, 2, len(X)) if weighted else np.ones(len(X))
    given = weight if weighted else None
    single = kind == "float32"
    net = linear(solver, tol=1e-4 if single else 1e-6)
    exact = regressor(solver, hidden_layer_sizes=(), alpha=net.alpha).objective(X, y, given)
    net.fit(KINDS[kind](X), y, sample_weight=given)
    lowest = exact.fun(ridge(X, y, net.alpha, weight))
    assert lowest * (1 - 1e-12) <= exact.fun(flat(net)) <= lowest * (1 + (1e-5 if single else 1e-7))
    assert net.coefs_[0].dtype == (np.float32 if single else np.float64)


@pytest.mark.parametrize("n_outputs", [1, 2, 3])
def test_newton_cg_asks_for_no_more_than_float32_resolves(n_outputs):
    """A line search that finds nothing lower would be a warning, which is an error here."""
    X, y = make_data(n_outputs=n_outputs)
    net = linear("newton-cg", tol=1e-9).fit(X.astype(np.float32), y)
    assert net.stop_reason_ == "Optimization terminated successfully."


@pytest.mark.parametrize("solver", [name for name in FOR_CLASSES if name in LOCAL])
def test_minimum_of_logistic_regression(solver):
    X, z = make_data()
    y = np.digitize(z, [-0.5, 0.5])
    clf = MLPClassifier((), solver=solver, alpha=1.0, tol=1e-6, max_iter=300, random_state=0)
    f = clf.objective(X, y)
    clf.fit(X, y)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(X, y)
    lowest = f.fun(np.concatenate([theirs.coef_.T.ravel(), theirs.intercept_]))
    assert f.fun(flat(clf)) <= lowest * (1 + 1e-6)


@no_convergence_needed
@every_solver
def test_loss_gets_lower(solver):
    X, y = make_data()
    net = regressor(solver)
    f = net.objective(X, y)
    initial = f.fun(f.x0)
    net.fit(X, y)
    assert net.loss_ < 0.3 * initial
    assert net.loss_curve_
    assert net.loss_curve_[-1] == net.loss_ == net.best_loss_ == min(net.loss_curve_)
    np.testing.assert_allclose(net.loss_, f.fun(flat(net)), rtol=1e-12)
    assert len(net.grad_norm_curve_) == len(net.loss_curve_)
    assert net.n_passes_ >= len(net.loss_curve_)


@pytest.mark.parametrize("solver", ["lbfgs", "bfgs", "newton", "trust-exact"])
def test_a_fit_that_is_at_its_end_when_it_begins(solver):
    net = regressor(solver, tol=1e3).fit(*make_data())
    assert net.n_iter_ == 0
    assert net.loss_curve_ == []
    assert net.best_loss_ == net.loss_


@no_convergence_needed
@pytest.mark.parametrize("solver", FOR_CLASSES)
def test_classifier_learns(solver):
    X, z = make_data()
    y = np.where(z > 0, "up", "down")
    clf = MLPClassifier(
        (2,), activation="tanh", solver=solver, max_iter=20, alpha=0.01, random_state=0
    )
    assert clf.fit(X, y).score(X, y) > 0.9


@pytest.mark.parametrize("solver", sorted(WITH_HESSIAN))
@pytest.mark.parametrize("seed", range(3))
def test_second_order_solvers_come_to_a_minimum(solver, seed):
    """Not only to a small gradient: nothing goes down from there."""
    X, y = make_data(seed=seed)
    net = regressor(solver, max_iter=300, random_state=seed)
    f = net.objective(X, y)
    net.fit(X, y)
    # Newton-CG bounds the steps, the others the gradient.
    assert np.abs(f.grad(flat(net))).max() < 10 * net.tol
    assert np.linalg.eigvalsh(f.hess(flat(net))).min() > -1e-8


def call(solver, objective, x0, callback=lambda intermediate_result: None, seed=0, **parameters):
    parameters = {"maxiter": 20, "maxfun": 15000, "tol": 1e-6} | parameters
    return SOLVERS[solver](
        objective, x0, random_state=np.random.RandomState(seed), callback=callback, **parameters
    )


@pytest.mark.parametrize("alpha", [0.0, 0.001])
@pytest.mark.parametrize("seed", range(4))
def test_levenberg_marquardt_finds_the_minimum_of_minpack(seed, alpha):
    """Started near a teacher, both go to the minimum beside it."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(200, 2))
    teacher = regressor("lbfgs", alpha=alpha, random_state=seed)
    f = teacher.objective(X, np.zeros(200))
    w = rng.normal(size=f.n_parameters)
    y = teacher.set_weights(w).predict(X) + 0.01 * rng.normal(size=200)
    f = teacher.objective(X, y)
    x0 = w + 0.01 * rng.normal(size=w.size)
    ours = call("levenberg-marquardt", f, x0, maxiter=500, tol=1e-9)
    exact = dict.fromkeys(("xtol", "ftol", "gtol"), 1e-15)
    theirs = scipy.optimize.least_squares(f.residuals, x0, f.jac, method="lm", **exact)
    np.testing.assert_allclose(ours.fun, theirs.cost, rtol=1e-8)
    np.testing.assert_allclose(ours.x, theirs.x, rtol=1e-4, atol=1e-4)


@no_convergence_needed
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_our_bfgs_trains_the_network_of_scipy(dtype):
    X, y = make_data()
    ours, theirs = (regressor(name).fit(X.astype(dtype), y) for name in ("bfgs", "scipy-bfgs"))
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.n_passes_ == theirs.n_passes_
    tolerance = 1e-3 if dtype is np.float32 else 1e-8
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=tolerance)


# What a solver owes to those who call it.


@every_solver
def test_contract(solver):
    f = regressor(solver).objective(*make_data())
    x0, told = f.x0.copy(), []

    def listen(intermediate_result):
        told.append((intermediate_result.x.copy(), intermediate_result.fun))

    result = call(solver, f, x0, listen)
    np.testing.assert_array_equal(x0, f.x0)
    assert isinstance(result, scipy.optimize.OptimizeResult)
    assert np.isclose(result.fun, f.fun(result.x), rtol=1e-12)
    assert isinstance(result.status, int)
    assert isinstance(result.message, str)
    assert result.nit <= 20
    assert told
    assert told[-1][1] == result.fun
    for x, value in told:
        np.testing.assert_allclose(value, f.fun(x), rtol=1e-12)


@pytest.mark.parametrize("solver", CONVERGING)
def test_max_iter(solver):
    with pytest.warns(ConvergenceWarning, match=rf"(?s){solver} failed to .*\(max_iter=3\)"):
        net = regressor(solver, max_iter=3, tol=0.0).fit(*make_data())
    assert net.n_iter_ == len(net.loss_curve_) == 3
    assert "iterations" in net.stop_reason_.lower()


def test_annealing_uses_all_iterations():
    net = regressor("dual-annealing", max_iter=3).fit(*make_data())
    assert net.n_iter_ == 3
    assert net.t_ == 3 * len(make_data()[0])
    assert "iteration" in net.stop_reason_


@pytest.mark.parametrize("solver", ["lbfgs", "dual-annealing"])
def test_max_fun(solver):
    with pytest.warns(ConvergenceWarning, match="failed to converge"):
        net = regressor(solver, max_fun=10, max_iter=50).fit(*make_data())
    # The one that asks whether the objective is finite, and what the last search still needs.
    assert net.n_passes_ <= 10 + 2
    assert "function call" in net.stop_reason_ or "EVALUATIONS" in net.stop_reason_


@no_convergence_needed
@every_solver
def test_tol(solver):
    """Whatever a solver bounds by it: the larger, the less work."""
    passes = [regressor(solver, tol=tol).fit(*make_data()).n_passes_ for tol in (1e-6, 10.0)]
    assert passes[1] < passes[0]


@no_convergence_needed
@every_solver
def test_same_seed_same_result(solver):
    first, second = (regressor(solver, max_iter=5).fit(*make_data()) for _ in range(2))
    np.testing.assert_array_equal(flat(first), flat(second))
    assert first.loss_curve_ == second.loss_curve_


@no_convergence_needed
@every_solver
def test_warm_start_goes_on(solver):
    X, y = make_data()
    net = regressor(solver, max_iter=3, warm_start=True).fit(X, y)
    loss, curve = net.loss_, list(net.loss_curve_)
    net.fit(X, y)
    assert net.loss_ <= loss * (1 + 1e-12)
    assert net.loss_curve_[: len(curve)] == curve
    assert net.n_iter_ <= 3


@no_convergence_needed
@every_solver
def test_warm_start_at_the_minimum_stays(solver):
    X, y = make_data()
    net = linear("newton", warm_start=True).fit(X, y)
    loss = net.loss_
    net.set_params(solver=solver, max_iter=3).fit(X, y)
    np.testing.assert_allclose(net.loss_, loss, rtol=1e-12)
    assert net.stop_reason_


@no_convergence_needed
@every_solver
def test_validation_curves(solver):
    X, y = make_data()
    told = {"X_val": X[40:], "y_val": y[40:]}
    net = regressor(solver).fit(X[:40], y[:40], **told)
    plain = regressor(solver).fit(X[:40], y[:40])
    np.testing.assert_array_equal(flat(net), flat(plain))
    assert len(net.validation_scores_) == len(net.validation_loss_curve_) == len(net.loss_curve_)
    assert net.validation_scores_[-1] == net.score(X[40:], y[40:])
    assert net.best_validation_score_ == max(net.validation_scores_)


@no_convergence_needed
@every_solver
def test_n_init_keeps_the_best_start(solver):
    X, y = make_data()
    several = regressor(solver, max_iter=4, n_init=3).fit(X, y)
    rng = np.random.RandomState(0)
    losses = [regressor(solver, max_iter=4, random_state=rng).fit(X, y).loss_ for _ in range(3)]
    assert several.loss_ == min(losses)


@no_convergence_needed
@every_solver
def test_verbose(solver, capsys):
    net = regressor(solver, max_iter=3, verbose=True).fit(*make_data())
    assert f"Iteration {len(net.loss_curve_)}, loss = {net.loss_:.8f}" in capsys.readouterr().out


# Who ends a training, and what is said of it.


class Watcher:
    """A scikit-learn callback that does something at the end of one task."""

    def __init__(self, act, after=1):
        self.act, self.after, self.seen = act, after, []

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if context.task_name == "fit":
            return None
        self.seen.append(flat(fitted_estimator))
        return self.act() if len(self.seen) == self.after else None


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


STOCHASTIC = ("sgd", "adam", "rmsprop")


@pytest.mark.parametrize("solver", [*SOLVERS, *STOCHASTIC])
def test_callback_stops(solver):
    """Without a warning: it is what the user asked for."""
    watcher = Watcher(lambda: True)
    net = regressor(solver).set_callbacks(watcher).fit(*make_data())
    assert len(watcher.seen) == len(net.loss_curve_) == 1
    np.testing.assert_array_equal(flat(net), watcher.seen[0])
    assert net.stop_reason_ == "stopped by a callback"


@pytest.mark.parametrize("solver", [*SOLVERS, *STOCHASTIC])
def test_ctrl_c_keeps_what_was_learned(solver):
    watcher = Watcher(press_ctrl_c)
    X, y = make_data()
    with pytest.warns(TrainingInterrupted, match="interrupted by user"):
        net = regressor(solver).set_callbacks(watcher).fit(X, y)
    np.testing.assert_array_equal(flat(net), watcher.seen[-1])
    assert net.stop_reason_ == "interrupted by the user"
    assert net.n_iter_ == len(net.loss_curve_) == 1
    assert net.loss_curve_[-1] == net.loss_
    assert np.isfinite(net.predict(X)).all()


@every_solver
def test_ctrl_c_within_an_iteration(solver, monkeypatch):
    """Not in a callback, where a solver might swallow it, but in an evaluation of the objective."""
    from fastgd.solvers import Objective

    evaluate, n_calls = Objective._run, iter(range(10**6))

    def run(self, *arguments):
        if next(n_calls) == 4:
            press_ctrl_c()
        return evaluate(self, *arguments)

    monkeypatch.setattr(Objective, "_run", run)
    X, y = make_data()
    with pytest.warns(TrainingInterrupted, match="interrupted by user"):
        net = regressor(solver).fit(X, y)
    assert np.isfinite(net.predict(X)).all()
    assert np.isfinite(net.loss_)


@pytest.mark.parametrize("solver", STOCHASTIC)
def test_why_an_update_rule_stopped(solver):
    X, y = make_data()
    with pytest.warns(ConvergenceWarning):
        assert "max_iter=3" in regressor(solver, max_iter=3).fit(X, y).stop_reason_
    eager = {"tol": 10.0, "n_iter_no_change": 2}
    assert "Training loss did not improve" in regressor(solver, **eager).fit(X, y).stop_reason_
    early = regressor(solver, early_stopping=True, **eager).fit(X, y)
    assert "Validation score did not improve" in early.stop_reason_
    assert "partial_fit" in regressor(solver).partial_fit(X, y).stop_reason_


@pytest.mark.parametrize("solver", LOCAL)
def test_why_a_solver_stopped(solver):
    reason = linear(solver).fit(*make_data()).stop_reason_
    assert "terminated successfully" in reason or "CONVERGENCE" in reason


# Numbers that are not finite.


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("warm_start", [False, True])
@every_solver
def test_infinite_objective_at_the_start(solver, warm_start):
    X, y = make_data()
    net = linear("lbfgs", warm_start=warm_start)
    with pytest.raises(ValueError, match=r"objective is (inf|nan) at the initial parameters"):
        net.set_params(solver=solver).fit(1e200 * X, y)
    assert not hasattr(net, "coefs_")
    net.set_params(solver="lbfgs").fit(X, y)
    before, weights = state(net), flat(net)
    with pytest.raises(ValueError, match=r"large\s+values and need to be preprocessed"):
        net.set_params(solver=solver).fit(1e200 * X, y)
    assert state(net) == before
    np.testing.assert_array_equal(flat(net), weights)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("solver", LOCAL)
def test_gradient_that_overflows(solver):
    """In float32, where the objective does not."""
    X, y = np.float32([[1e30], [-1e30]]), np.float32([1e10, -1e10])
    net = linear(solver, init=lambda n, m, rng: np.zeros((n, m)))
    f = net.objective(X, y)
    assert np.isfinite(f.fun(f.x0))
    assert np.isinf(f.grad(f.x0)).any()
    with pytest.raises(ValueError, match=r"its gradient is not finite.*preprocessed"):
        net.fit(X, y)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("solver", LOCAL)
def test_gradient_of_nan_is_no_success(solver, monkeypatch):
    f = regressor(solver).objective(*make_data())
    terms, grad = f.terms_and_grad(f.x0)
    monkeypatch.setattr(f, "terms_and_grad", lambda w: (terms, grad * np.nan))
    try:
        assert call(solver, f, f.x0).status != 0
    except ValueError as error:
        assert "NaN" in str(error)  # noqa: PT017 -- either will do


@no_convergence_needed
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("solver", FOR_CLASSES)
def test_poisson_of_large_data_stays_finite(solver):
    """Steps lead to exponentials that overflow; what is kept is finite, and better."""
    X, _ = make_data()
    y = np.random.default_rng(0).poisson(3.0, len(X)).astype(float)
    net = linear(solver, loss="poisson", max_iter=15)
    f = net.objective(30 * X, y)
    initial = f.fun(f.x0)
    assert np.isfinite(initial)
    net.fit(30 * X, y)
    assert net.loss_ <= initial
    np.testing.assert_allclose(net.loss_, f.fun(flat(net)), rtol=1e-12)
    assert np.isfinite(net.loss_curve_).all()


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("n_good", [0, 2])
def test_solver_that_leaves_the_finite_numbers(monkeypatch, n_good):
    """The best parameters of all iterations are kept, with a warning."""

    def runaway(objective, x0, *, callback, **others):
        path = [x0 / 2**i for i in range(1, n_good + 1)] + [np.full_like(x0, 1e200)]
        for x in path:
            callback(scipy.optimize.OptimizeResult(x=x, fun=objective.fun(x)))
        return scipy.optimize.OptimizeResult(
            x=path[-1], fun=np.inf, nit=len(path), status=0, message="fine"
        )

    monkeypatch.setitem(SOLVERS, "lbfgs", runaway)
    X, y = make_data()
    net = regressor("lbfgs")
    f = net.objective(X, y)
    with pytest.warns(
        ConvergenceWarning, match="not finite or larger than before; the best parameters"
    ):
        net.fit(X, y)
    np.testing.assert_allclose(flat(net), f.x0 / 2**n_good, rtol=1e-15)
    np.testing.assert_allclose(net.loss_, f.fun(flat(net)), rtol=1e-12)
    assert np.isinf(net.loss_curve_[-1])


# Objectives without curvature, or with too little of it.


@no_convergence_needed
@pytest.mark.parametrize("alpha", [0.0, 0.01])
@every_solver
def test_nothing_to_learn(solver, alpha):
    """Constant features and equal targets: a bias is all that is needed."""
    X, y = np.ones((30, 3)), np.full(30, 2.0)
    net = regressor(solver, alpha=alpha, max_iter=100).fit(X, y)
    assert np.isfinite(flat(net)).all()
    np.testing.assert_allclose(net.predict(X), y, atol=0.5 if solver in GLOBAL else 0.01)


@no_convergence_needed
@every_solver
def test_start_at_the_minimum(solver):
    """All is zero, gradient and value too."""
    X, y = make_data()
    net = linear(solver, init=lambda n, m, rng: np.zeros((n, m)), max_iter=3)
    net.fit(X, np.zeros_like(y))
    assert net.loss_ == 0.0
    assert not flat(net).any()
    assert net.stop_reason_


@no_convergence_needed
@pytest.mark.parametrize("solver", LOCAL)
def test_singular_equations(solver):
    """Columns twice, and no penalty: a line of minima, each as good as the others."""
    X, y = make_data()
    twice = np.column_stack([X, X])
    f = linear(solver, alpha=0.0).objective(twice, y)
    net = linear(solver, alpha=0.0).fit(twice, y)
    lowest = f.fun(
        np.concatenate([ridge(X, y, 0.0, np.ones(len(X))), [0.0]])[[0, 1, 2, 4, 4, 4, 3]]
    )
    assert f.fun(flat(net)) <= lowest * (1 + 1e-7)
    assert np.abs(flat(net)).max() < 100


@no_convergence_needed
@pytest.mark.parametrize("solver", LOCAL)
def test_more_parameters_than_samples(solver):
    X, y = make_data(n_samples=5)
    net = regressor(solver, hidden_layer_sizes=(4,), alpha=0.0, max_iter=200).fit(X, y)
    assert net.loss_ < 1e-5


@no_convergence_needed
@pytest.mark.parametrize("solver", LOCAL)
def test_relu(solver):
    """The Hessian of the sides is singular wherever a unit is dead."""
    X, y = make_data()
    net = regressor(solver, activation="relu", hidden_layer_sizes=(4,), max_iter=100)
    f = net.objective(X, y)
    assert net.fit(X, y).loss_ < 0.3 * f.fun(f.x0)


# What does not fit, or does not go together.


@pytest.mark.parametrize("solver", SOLVERS)
def test_too_many_parameters(solver, monkeypatch):
    """Only those with dense matrices refuse, and name what to use instead."""
    X, y = make_data()
    net = regressor(solver, max_iter=2)
    n = net.objective(X, y).n_parameters
    net = regressor(solver, max_iter=2)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=8 * n * n - 1))
    if solver not in DENSE:
        with pytest.warns(ConvergenceWarning) if solver in CONVERGING else monkeypatch.context():
            net.fit(X, y)
        return
    with pytest.raises(MemoryError, match=rf"(?i){solver}.* {n} parameters.*bytes") as caught:
        net.fit(X, y)
    assert f"'{DENSE[solver]}'" in str(caught.value)
    assert not hasattr(net, "coefs_")


@pytest.mark.parametrize("solver", sorted(LEAST_SQUARES))
def test_least_squares_are_for_the_squared_error(solver):
    X, y = make_data()
    for net, targets in (
        (MLPClassifier((2,), solver=solver), y > 0),
        (regressor(solver, loss="huber"), y),
        (regressor(solver, loss="poisson"), np.abs(y)),
    ):
        with pytest.raises(ValueError, match="levenberg-marquardt' needs a squared error"):
            net.fit(X, targets)
        assert not hasattr(net, "coefs_")


@no_convergence_needed
@every_solver
def test_useless_parameters_are_named(solver):
    with pytest.warns(UserWarning, match=f"dropout has no effect with solver='{solver}'"):
        regressor(solver, dropout=0.1, max_iter=2).fit(*make_data())


@every_solver
def test_partial_fit_is_for_update_rules(solver):
    with pytest.raises(AttributeError, match="partial_fit"):
        regressor(solver).partial_fit(*make_data())


# Searches of a whole box.


@no_convergence_needed
@pytest.mark.parametrize("solver", sorted(GLOBAL))
def test_searches_warn_of_many_dimensions(solver):
    X, y = make_data()
    wide = regressor(solver, hidden_layer_sizes=(MANY // 4,), max_iter=1)
    with pytest.warns(UserWarning, match=f"{solver}.*meant for at most"):
        wide.fit(X[:5], y[:5])


def visited_points(solver, f, seed=0):
    """All points at which a solver asks for a value or a gradient."""
    visited = []

    def noted(function):
        def evaluate(w):
            visited.append(w.copy())
            return function(w)

        return evaluate

    call(solver, SimpleNamespace(fun=noted(f.fun), grad=noted(f.grad)), f.x0, seed=seed)
    return np.array(visited)


@pytest.mark.parametrize("solver", sorted(GLOBAL))
def test_searches_stay_in_their_box(solver):
    f = regressor(solver).objective(*make_data())
    box, visited = search_box(f.x0, solver), visited_points(solver, f)
    assert (box.lb <= f.x0).all()
    assert (f.x0 <= box.ub).all()
    # To rounding: evolution works in coordinates from 0 to 1.
    assert (visited >= box.lb * (1 + 1e-12)).all()
    assert (visited <= box.ub * (1 + 1e-12)).all()
    assert np.ptp(visited, axis=0).min() > box.ub.max()


@pytest.mark.parametrize("solver", sorted(GLOBAL))
def test_searches_follow_the_seed(solver):
    """From the same first weights."""
    f = regressor(solver).objective(*make_data())
    first, again, other = (visited_points(solver, f, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or (first != other).any()


def test_box_around_zeros():
    box = search_box(np.zeros(3), "dual-annealing")
    assert (box.ub > 0).all()
    np.testing.assert_array_equal(box.lb, -box.ub)


@no_convergence_needed
@pytest.mark.parametrize("solver", sorted(GLOBAL))
def test_searches_beat_their_start(solver):
    """From a start where every gradient is tiny, which holds up those that follow it."""
    X, y = make_data()
    net = regressor(solver, max_iter=60)
    far = net.objective(X, y).x0 * 30.0
    net = regressor(solver, max_iter=60, warm_start=True)
    f = net.objective(X, y)
    net.set_weights(far)
    assert net.fit(X, y).loss_ < 0.3 * f.fun(far)


# Linear systems.


@given(n=st.integers(1, 40), seed=st.integers(0, 10**6), shift=st.floats(0, 10))
def test_definite_systems_are_solved_as_lapack_does(n, seed, shift):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(n, n)) + 3 * np.eye(n)
    matrix, right = factor @ factor.T + np.eye(n), rng.normal(size=n)
    expected = np.linalg.solve(matrix + shift * np.eye(n), right)
    # The upper triangle may be anything.
    lower = np.tril(matrix) + np.triu(np.full((n, n), np.nan), 1)
    np.testing.assert_allclose(solve_definite(lower, shift, right), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("diagonal", [[1.0, -1.0], [1.0, 0.0], [np.nan, 1.0], [1.0, np.inf]])
def test_what_is_not_definite_is_noticed(diagonal):
    assert solve_definite(np.diag(diagonal), 0.0, np.array([1.0, np.inf])) is None


def test_newton_steps_end_where_numbers_do():
    g = np.array([np.inf, 1.0])
    np.testing.assert_array_equal(newton_step(np.eye(2), g), -g)
