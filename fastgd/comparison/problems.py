"""Problems to compare optimizers on: networks on real data, and functions with a known minimum."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import scipy.sparse
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.base import clone, is_classifier
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from fastgd.comparison.function_objective import FunctionObjective
from fastgd.comparison.solvers import description
from fastgd.datasets import load_mnist
from fastgd.neural_network import MLPClassifier, MLPRegressor
from fastgd.neural_network.validation import HeldOut

# Of the samples; the rest is trained on.
VALIDATION_SHARE, TEST_SHARE = 0.2, 0.2
# What a comparison takes of an estimator; the rest belongs to the solver, or to the seed.
OF_A_PROBLEM = (
    "hidden_layer_sizes", "activation", "alpha", "loss", "class_weight", "dropout", "clip_norm",
    "clip_value", "max_norm", "schedule", "init", "shuffle",
)  # fmt: skip


class Figures(NamedTuple):
    """What parameters are worth on held-out samples; NaN where a problem has none.

    Attributes
    ----------
    loss : float
        Mean of the network's own loss, without the penalty.
    score : float
        Accuracy, or R² in regression.
    """

    loss: float
    score: float


NOTHING = Figures(np.nan, np.nan)


@dataclass(frozen=True)
class NetworkProblem:
    """A network to train on samples; ``at(seed)`` fixes initial weights, split and batches.

    Attributes
    ----------
    name : str
    estimator : MLPClassifier or MLPRegressor
        Its layers, activation, loss and penalty are taken; solver and seed are not.
    load : callable
        Returns X and y.
    scale : bool
        Whether to scale features, and targets of a regression, by the training samples.
    """

    name: str
    estimator: Any
    load: Callable[[], tuple[Any, Any]] = field(repr=False)
    scale: bool = True

    @property
    def description(self) -> str:
        """What is trained, in words that are the same in every process."""
        values = self.estimator.get_params(deep=False)
        given = [f"{name}={description(values[name])}" for name in OF_A_PROBLEM if name in values]
        kind = type(self.estimator).__name__
        return f"{kind}({', '.join(given)}), {'' if self.scale else 'not '}scaled"

    def at(self, seed: int) -> NetworkInstance:
        return NetworkInstance(self, seed)


class NetworkInstance:
    """A network, its split samples and its initial weights, all decided by the seed.

    Parameters
    ----------
    problem : NetworkProblem
    seed : int
    """

    def __init__(self, problem: NetworkProblem, seed: int) -> None:
        X, y = problem.load()
        if np.ndim(y) == 2 and np.shape(y)[1] == 1:
            y = np.ravel(y)  # a column, which would not be stratified
        estimator = clone(problem.estimator)
        stratify = y if is_classifier(estimator) and np.ndim(y) == 1 else None
        rest, X_test, y_rest, y_test = train_test_split(
            X, y, test_size=TEST_SHARE, random_state=seed, stratify=stratify
        )
        X_train, X_val, y_train, y_val = train_test_split(
            rest, y_rest, test_size=VALIDATION_SHARE / (1 - TEST_SHARE), random_state=seed,
            stratify=None if stratify is None else y_rest,
        )  # fmt: skip
        if problem.scale:
            scaler = StandardScaler().fit(X_train)
            X_train, X_val, X_test = map(scaler.transform, (X_train, X_val, X_test))
            if not is_classifier(estimator):
                mean, spread = y_train.mean(axis=0), y_train.std(axis=0)
                # That of a constant is rounding.
                constant = spread <= 1e-12 * np.abs(mean)
                spread = np.where(constant, 1.0, spread)
                y_train, y_val, y_test = ((a - mean) / spread for a in (y_train, y_val, y_test))
        # One thread for each run; several runs share the processors.
        self.estimator = estimator.set_params(random_state=seed, n_jobs=1)
        self.X, self.y = X_train, y_train
        self.estimator._validate_params()
        training, w = self.estimator._before_training(X_train, y_train)
        self.objective = training.objective(w)
        self._validation = self._held_out(training, X_val, y_val)
        self._test = self._held_out(training, X_test, y_test)

    def _held_out(self, training: Any, X: NDArray[Any], y: NDArray[Any]) -> HeldOut:
        X, y = self.estimator._check_validation_set(X, y, training.dtype)
        return self.estimator._hold_out(training, X, y, None)

    def validation(self, w: NDArray[Any]) -> Figures:
        return _figures(self._validation, w)

    def test(self, w: NDArray[Any]) -> Figures:
        return _figures(self._test, w)


def _figures(samples: HeldOut, w: NDArray[Any]) -> Figures:
    if not np.isfinite(w).all():
        return NOTHING
    with np.errstate(all="ignore"):
        return Figures(samples.loss(w), samples.score(w))


@dataclass(frozen=True)
class FunctionProblem:
    """A function of a vector, with its gradient; ``at(seed)`` fixes where to begin.

    Attributes
    ----------
    name : str
    fun : callable
        ``fun(x) -> float``.
    grad : callable
        ``grad(x) -> array (n,)``.
    start : callable or array-like of shape (n,)
        Where to begin: a function of the seed's Generator, or a point near which seeds begin.
    minimum : float or None
        The lowest value, if it is known.
    hessp : callable or None
        ``hessp(x, v) -> array (n,)``, which Newton's methods need.
    """

    name: str
    fun: Callable[..., float] = field(repr=False)
    grad: Callable[..., Any] = field(repr=False)
    start: Any = field(repr=False)
    minimum: float | None = None
    hessp: Callable[..., Any] | None = field(default=None, repr=False)

    @property
    def description(self) -> str:
        """What is known of it, in words."""
        return repr(self)

    def at(self, seed: int) -> FunctionInstance:
        return FunctionInstance(self, seed)


class FunctionInstance:
    """A function and a point to begin with."""

    def __init__(self, problem: FunctionProblem, seed: int) -> None:
        rng = np.random.default_rng(seed)
        if callable(problem.start):
            x0 = np.asarray(problem.start(rng), np.float64)
        else:
            center = np.asarray(problem.start, np.float64)
            x0 = center + 0.1 * rng.normal(size=center.shape)
        if x0.ndim != 1 or not x0.size:
            raise ValueError(
                f"{problem.name} must begin at a vector, but x0 has the shape {x0.shape}."
            )
        self.objective = FunctionObjective(problem.fun, problem.grad, x0, problem.hessp)

    def validation(self, w: NDArray[Any]) -> Figures:
        return NOTHING

    def test(self, w: NDArray[Any]) -> Figures:
        return NOTHING


Problem = NetworkProblem | FunctionProblem
Instance = NetworkInstance | FunctionInstance


def quadratic(condition: float, n: int = 20) -> FunctionProblem:
    """½ xᵀA x with eigenvalues from 1 / condition to 1, in a rotated basis."""
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))[0]
    matrix = axes * np.geomspace(1 / condition, 1.0, n) @ axes.T
    return FunctionProblem(
        f"quadratic-{condition:.0e}".replace("e+0", "e"),
        lambda x: float(0.5 * x @ matrix @ x), lambda x: matrix @ x,
        lambda rng: rng.normal(size=n), 0.0, lambda x, v: matrix @ v,
    )  # fmt: skip


def _rosenbrock(rng: np.random.Generator) -> NDArray[np.float64]:
    return np.array([-1.2, 1.0]) + 0.2 * rng.normal(size=2)


@functools.cache
def _bundled(loader: Callable[..., Any], n_samples: int | None = None) -> tuple[Any, Any]:
    """A data set that scikit-learn ships, or a random part of it."""
    X, y = loader(return_X_y=True)
    if n_samples is not None:
        rows = np.random.default_rng(0).permutation(len(X))[:n_samples]
        X, y = X[rows], y[rows]
    return np.asarray(X, np.float64), y


def _network(
    name: str, load: Callable[[], Any], hidden: tuple[int, ...], activation: str,
    regression: bool = False, alpha: float = 1e-3,
) -> NetworkProblem:  # fmt: skip
    kind = MLPRegressor if regression else MLPClassifier
    estimator = kind(hidden_layer_sizes=hidden, activation=activation, alpha=alpha)
    return NetworkProblem(name, estimator, load)


def _mnist() -> tuple[Any, Any]:
    X_train, y_train, X_test, y_test = load_mnist()
    return np.concatenate([X_train, X_test]), np.concatenate([y_train, y_test])


IRIS = functools.partial(_bundled, datasets.load_iris)
WINE = functools.partial(_bundled, datasets.load_wine)
CANCER = functools.partial(_bundled, datasets.load_breast_cancer)
DIGITS = functools.partial(_bundled, datasets.load_digits, 800)
DIABETES = functools.partial(_bundled, datasets.load_diabetes)

PROBLEMS: dict[str, Problem] = {
    problem.name: problem
    for problem in (
        quadratic(1e2),
        quadratic(1e4),
        FunctionProblem(
            "rosenbrock", scipy.optimize.rosen, scipy.optimize.rosen_der, _rosenbrock, 0.0,
            scipy.optimize.rosen_hess_prod,
        ),
        # Without a hidden layer a network is logistic regression, which is convex.
        _network("cancer-logistic", CANCER, (), "identity", alpha=1.0),
        _network("digits-logistic", DIGITS, (), "identity", alpha=1.0),
        _network("iris-tanh", IRIS, (8,), "tanh"),
        _network("wine-relu", WINE, (16,), "relu"),
        _network("cancer-tanh", CANCER, (8,), "tanh"),
        _network("digits-tanh", DIGITS, (8,), "tanh"),
        _network("digits-relu-deep", DIGITS, (8, 8), "relu"),
        _network("diabetes-tanh", DIABETES, (8,), "tanh", regression=True),
        _network("diabetes-relu", DIABETES, (16,), "relu", regression=True),
        NetworkProblem(
            "mnist-relu", MLPClassifier(hidden_layer_sizes=(64,), alpha=1e-4), _mnist, scale=False
        ),
    )
}  # fmt: skip

SUITES: dict[str, tuple[str, ...]] = {
    "small": tuple(name for name in PROBLEMS if name != "mnist-relu"),
    "networks": tuple(name for name, p in PROBLEMS.items() if name.count("-") and not
                      isinstance(p, FunctionProblem) and "logistic" not in name and
                      "mnist" not in name),
    "convex": ("quadratic-1e2", "quadratic-1e4", "cancer-logistic", "digits-logistic"),
    "functions": ("quadratic-1e2", "quadratic-1e4", "rosenbrock"),
    "mnist": ("mnist-relu",),
}  # fmt: skip


def as_problems(wanted: Any) -> list[Problem]:
    """The problems that a user named or brought.

    Parameters
    ----------
    wanted : str, problem, tuple, or a sequence of these
        A name of ``SUITES`` or ``PROBLEMS``; a ``FunctionProblem`` or ``NetworkProblem``;
        ``(estimator, X, y)``; ``(fun, grad, x0)``.

    Raises
    ------
    ValueError
        A name is not known, or something is none of these.
    """
    if isinstance(wanted, str):
        names = SUITES[wanted] if wanted in SUITES else (_known(wanted),)
        return [PROBLEMS[name] for name in names]
    if isinstance(wanted, tuple) and len(wanted) == 3 and _is_of_three(*wanted[:2]):
        return [_of_three(*wanted)]
    if isinstance(wanted, Problem):
        return [wanted]
    if isinstance(wanted, Sequence) and wanted:
        problems = [problem for one in wanted for problem in as_problems(one)]
        return list({p.name: p for p in _with_own_names(problems)}.values())
    raise ValueError(
        "problems must be the name of a suite or a problem, a problem, (estimator, X, y),"
        f" (fun, grad, x0), or several of these; got {wanted!r}."
    )


def _known(name: str) -> str:
    if name not in PROBLEMS:
        raise ValueError(
            f"problems must be one of the suites {', '.join(SUITES)} or of the problems"
            f" {', '.join(PROBLEMS)}; got {name!r}."
        )
    return name


def _is_of_three(first: Any, second: Any) -> bool:
    """Whether three things are (estimator, X, y) or (fun, grad, x0), and not three problems."""
    return hasattr(first, "objective") or (callable(first) and callable(second))


def _of_three(first: Any, second: Any, third: Any) -> Problem:
    if isinstance(first, type):
        name = first.__name__
        raise ValueError(f"problems must have an estimator such as {name}(), got the class {name}.")
    if not hasattr(first, "objective"):
        return FunctionProblem(getattr(first, "__name__", "function"), first, second, third)
    X = scipy.sparse.csr_array(second) if scipy.sparse.issparse(second) else np.asarray(second)
    y = np.asarray(third)
    return NetworkProblem(type(first).__name__, first, lambda: (X, y), scale=False)


def _with_own_names(problems: list[Problem]) -> list[Problem]:
    """Number the problems that a user brought under one name."""
    seen: dict[str, Any] = {}
    result = []
    for problem in problems:
        name, i = problem.name, 2
        while name in seen and seen[name] is not problem:
            name, i = f"{problem.name}-{i}", i + 1
        if name != problem.name:
            problem = dataclasses.replace(problem, name=name)
        seen[name] = problem
        result.append(problem)
    return result
