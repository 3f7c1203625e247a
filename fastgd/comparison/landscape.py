"""Surfaces of descent: paths on functions of two variables, and on the loss surface of a network.

A network's surface is seen on a plane through its parameters: the two directions in which the
paths vary most (their principal components; Lorch 2016), or two random directions scaled unit by
unit to the weights, so that networks can be compared (Li, Xu, Taylor, Studer & Goldstein 2018).
"""

from __future__ import annotations

import functools
import time
import warnings
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from fastgd.comparison.problems import FunctionProblem, NetworkProblem, as_problems
from fastgd.comparison.runs import follow
from fastgd.comparison.solvers import Solver, as_solvers
from fastgd.comparison.watch import Budget, CostRatios, Watch
from fastgd.kernels.layout import parameter_views
from fastgd.optimizers import SGD, Adagrad, Adam, RMSprop

DIRECTIONS = ("pca", "filter")
N_GRID = 41
MARGIN = 0.15  # of the width of the paths, around them
STEPS = 150
# So much may a solver spend for each step: some call back only where they found a better point.
CALLS_A_STEP = 100.0


class Surface(NamedTuple):
    """A function on a plane, and paths on it.

    Attributes
    ----------
    name : str
    a, b : ndarray of shape (G,)
        Coordinates.
    values : ndarray of shape (G, G)
        ``values[j, i]`` belongs to ``a[i], b[j]``.
    paths : dict of str to ndarray of shape (T, 2)
    labels : tuple of str
        Of the two axes.
    lowest : float
        What the colours are counted from.
    """

    name: str
    a: NDArray[np.float64]
    b: NDArray[np.float64]
    values: NDArray[np.float64]
    paths: dict[str, NDArray[np.float64]]
    labels: tuple[str, str]
    lowest: float


class Landscape(NamedTuple):
    """A function of two variables to look at: where to begin, and what to show."""

    fun: Any
    grad: Any
    start: tuple[float, float]
    box: tuple[float, float, float, float]
    lowest: float


def _beale(x: NDArray[Any]) -> float:
    a, b = x
    terms = 1.5 - a + a * b, 2.25 - a + a * b**2, 2.625 - a + a * b**3
    return float(sum(t * t for t in terms))


def _beale_gradient(x: NDArray[Any]) -> NDArray[np.float64]:
    a, b = x
    terms = 1.5 - a + a * b, 2.25 - a + a * b**2, 2.625 - a + a * b**3
    by_a = sum(2 * t * (b ** (i + 1) - 1) for i, t in enumerate(terms))
    by_b = sum(2 * t * a * (i + 1) * b**i for i, t in enumerate(terms))
    return np.array([by_a, by_b])


def _himmelblau(x: NDArray[Any]) -> float:
    a, b = x
    return float((a * a + b - 11) ** 2 + (a + b * b - 7) ** 2)


def _himmelblau_gradient(x: NDArray[Any]) -> NDArray[np.float64]:
    a, b = x
    u, v = a * a + b - 11, a + b * b - 7
    return np.array([4 * a * u + 2 * v, 2 * u + 4 * b * v])


LANDSCAPES: dict[str, Landscape] = {
    "rosenbrock": Landscape(
        scipy.optimize.rosen, scipy.optimize.rosen_der, (-1.5, 1.7), (-2, 2, -0.8, 3), 0.0
    ),
    "beale": Landscape(_beale, _beale_gradient, (1.0, 1.6), (-0.5, 4.2, -1.5, 2.2), 0.0),
    "himmelblau": Landscape(_himmelblau, _himmelblau_gradient, (-0.5, -1.0), (-5, 5, -5, 5), 0.0),
    "saddle": Landscape(
        lambda x: float(x[0] ** 2 - x[1] ** 2 + 0.25 * x[1] ** 4),
        lambda x: np.array([2 * x[0], x[1] ** 3 - 2 * x[1]]),
        (1.4, 1e-3), (-1.6, 1.6, -2, 2), -1.0,
    ),
    "valley": Landscape(
        lambda x: float(0.5 * (x[0] ** 2 + 50 * x[1] ** 2)),
        lambda x: np.array([x[0], 50 * x[1]]), (-9.0, 1.0), (-10, 3, -2, 2), 0.0,
    ),
}  # fmt: skip

# Length of a step from which second derivatives are taken.
DIFFERENCE = 1e-5
# Rates that suit functions of two variables, some of which are steep.
FOR_FUNCTIONS = (
    Solver("gradient descent", SGD(learning_rate=1e-3)),
    Solver("momentum", SGD(learning_rate=1e-3, momentum=0.9)),
    Solver("nesterov", SGD(learning_rate=1e-3, momentum=0.9, nesterov=True)),
    Solver("adagrad", Adagrad(learning_rate=0.5)),
    Solver("rmsprop", RMSprop(learning_rate=0.03)),
    Solver("adam", Adam(learning_rate=0.1)),
    Solver("bfgs", "bfgs", order=2),
)
FOR_NETWORKS = ("sgd", "momentum", "adam", "rmsprop", "lbfgs")


class PathWatch(Watch):
    """Follows a run for its parameters alone, for a number of steps or epochs."""

    def __init__(self, instance: Any, n_steps: int, budget: Budget) -> None:
        self.points = [np.array(instance.objective.x0)]
        self.last = self.points[0]
        self.status = self.reason = ""
        self.steps = 0
        self._n_steps = n_steps
        self._budget = budget
        self._seconds, self._resumed = 0.0, time.perf_counter()

    def begin(self) -> None:
        """The first point is known."""

    def end(self, w: NDArray[Any], passes: float) -> None:
        """The last point is known."""

    def stop_within_an_iteration(self, passes: float) -> None:
        """So is where it was stopped."""

    def tell(self, w: NDArray[Any], passes: float) -> bool:
        """Keep a point; whether that was the last."""
        if not np.isfinite(w).all():
            return True
        self.last = np.array(w, np.float64)
        self.points.append(self.last)
        return len(self.points) > self._n_steps


def path(solver: Solver, problem: Any, seed: int, n_steps: int) -> NDArray[np.float64]:
    """Parameters after each step on a function or epoch of a network, shape (T, n)."""
    instance = problem.at(seed)
    budget = Budget(CALLS_A_STEP * n_steps, np.inf)
    watch = PathWatch(instance, n_steps, budget)
    with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
        follow(solver, instance, watch, CostRatios(), budget, seed)
    return np.array(watch.points)


def _hessian_product(grad: Any, x: NDArray[Any], v: NDArray[Any]) -> NDArray[np.float64]:
    """By a central difference of the gradient, near enough for a picture."""
    step = DIFFERENCE / max(float(np.linalg.norm(v)), DIFFERENCE)
    return np.asarray((grad(x + step * v) - grad(x - step * v)) / (2 * step), np.float64)


def function_surface(
    name: str = "rosenbrock", solvers: Any = FOR_FUNCTIONS, n_steps: int = STEPS
) -> Surface:
    """The paths of several optimizers on a function of two variables.

    Parameters
    ----------
    name : str, default="rosenbrock"
        Out of ``LANDSCAPES``.
    solvers : as for ``fastgd.compare``
    n_steps : int, default=150

    Raises
    ------
    ValueError
        There is no function of that name.
    """
    if name not in LANDSCAPES:
        raise ValueError(f"function must be one of {', '.join(LANDSCAPES)}, got {name!r}.")
    landscape = LANDSCAPES[name]
    # Exactly the start: seeds would scatter around it.
    problem = FunctionProblem(
        name, landscape.fun, landscape.grad, lambda rng: np.array(landscape.start),
        hessp=functools.partial(_hessian_product, landscape.grad),
    )  # fmt: skip
    left, right, bottom, top = landscape.box
    a, b = np.linspace(left, right, 161), np.linspace(bottom, top, 161)
    values = np.array([[landscape.fun(np.array([x, y])) for x in a] for y in b])
    paths = {solver.name: path(solver, problem, 0, n_steps) for solver in as_solvers(solvers)}
    return Surface(name, a, b, values, paths, ("x₁", "x₂"), landscape.lowest)


def network_surface(
    problem: Any = "digits-tanh", solvers: Any = FOR_NETWORKS, *, directions: str = "pca",
    n_steps: int = 60, seed: int = 0, n_grid: int = N_GRID,
) -> Surface:  # fmt: skip
    """The training objective of a network on a plane through its parameters, and paths on it.

    Parameters
    ----------
    problem : as for ``fastgd.compare``, default="digits-tanh"
        One network.
    solvers : as for ``fastgd.compare``
    directions : {"pca", "filter"}, default="pca"
        The plane: in which the paths vary most, or random and scaled to each unit's weights.  The
        first solver's last point lies in it; all else is projected.
    n_steps : int, default=60
        Epochs or iterations.
    seed : int, default=0
    n_grid : int, default=41
        Points along each axis.

    Raises
    ------
    ValueError
        The problem is no single network, or there are no such directions.
    """
    if directions not in DIRECTIONS:
        raise ValueError(f"directions must be one of {DIRECTIONS}, got {directions!r}.")
    if n_grid < 2:
        raise ValueError(f"n_grid must be at least 2, got {n_grid!r}.")
    found = as_problems(problem)
    if len(found) != 1 or not isinstance(found[0], NetworkProblem):
        raise ValueError(f"problem must be one network, got {problem!r}.")
    network = found[0]
    paths = {solver.name: path(solver, network, seed, n_steps) for solver in as_solvers(solvers)}
    objective: Any = network.at(seed).objective
    center = next(iter(paths.values()))[-1]
    if directions == "pca":
        if not any(np.ptp(points, axis=0).any() for points in paths.values()):
            raise ValueError(f"No path moves in {n_steps} steps: there are no directions to show.")
        plane, shares = principal_directions(np.concatenate(list(paths.values())) - center)
        labels = tuple(f"direction {i + 1} ({share:.0%})" for i, share in enumerate(shares))
    else:
        plane = filter_directions(center, objective.layers, np.random.default_rng(seed))
        labels = ("random direction 1", "random direction 2")
    # Least squares, since the random directions are not orthonormal.
    seen = {
        name: np.linalg.lstsq(plane.T, (points - center).T, rcond=None)[0].T
        for name, points in paths.items()
    }
    everything = np.concatenate(list(seen.values()))
    if directions == "filter":  # the paths hardly leave the point; the surface is the subject
        everything = np.concatenate([everything, [[-1.0, -1.0], [1.0, 1.0]]])
    low, high = everything.min(axis=0), everything.max(axis=0)
    room = MARGIN * np.maximum(high - low, 1e-9)
    a, b = (np.linspace(low[i] - room[i], high[i] + room[i], n_grid) for i in range(2))
    values = np.array([
        [objective.fun(center + x * plane[0] + y * plane[1]) for x in a] for y in b
    ])  # fmt: skip
    lowest = float(np.nanmin(values))
    return Surface(network.name, a, b, values, seen, (labels[0], labels[1]), lowest)


def principal_directions(
    points: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two orthonormal directions (2, n) in which points (T, n) vary most, and their shares."""
    _, sizes, directions = np.linalg.svd(points, full_matrices=False)
    shares = sizes**2 / np.sum(sizes**2)
    return directions[:2], shares[:2]


def filter_directions(
    w: NDArray[np.float64], layers: NDArray[Any], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Two random directions (2, n), each unit's part as long as its weights; biases stay."""
    directions = np.zeros((2, w.size))
    for direction in directions:
        for weights, part in zip(
            parameter_views(w, layers)[0], parameter_views(direction, layers)[0], strict=True
        ):
            part[:] = rng.normal(size=part.shape)
            part *= np.linalg.norm(weights, axis=0) / np.linalg.norm(part, axis=0)
    return directions
