"""How long is an iteration of Levenberg–Marquardt, and how long is the way to a minimum?"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.optimize
from numpy.random import RandomState
from numpy.typing import NDArray

from bench.cells import SEED, Cell
from bench.pairing import Contest, ratio
from bench.table import Table, number, spread
from fastgd import MLPRegressor, Objective
from fastgd.solvers import SOLVERS

CELLS = tuple(
    Cell((n_features, 10, 1), 2_000, 1, 1, "tanh", "squared_error", "float64")
    for n_features in (3, 8, 28)
)
NOISE = 0.03  # of the targets, and of the start
ITERATIONS = 4  # so many before either is at the minimum
ENOUGH_ITERATIONS = 50  # then both are
AT_MINIMUM = 1e-6  # relative: so little above the least cost is at the minimum

# Cost and number of iterations after at most so many of these.
Fit = Callable[[int], tuple[float, int]]


@functools.lru_cache(maxsize=1)
def problem(cell: Cell) -> tuple[Objective, NDArray[np.float64]]:
    """Noisy outputs of a network, for one like it to fit, and a start near its parameters.

    From there both methods go to the same minimum.
    """
    rng, n_samples = RandomState(SEED), cell.n_samples
    X = rng.standard_normal((n_samples, cell.sizes[0]))
    net = MLPRegressor(
        hidden_layer_sizes=cell.sizes[1:-1],
        activation=cell.activation,
        alpha=0.0,
        random_state=SEED,
    )
    # Four times the initial weights: the units differ, and are neither linear nor saturated.
    teacher = 4.0 * net.objective(X, np.zeros(n_samples)).x0
    y = net.set_weights(teacher).predict(X) + NOISE * rng.standard_normal(n_samples)
    return net.objective(X, y), teacher + NOISE * rng.standard_normal(teacher.size)


@functools.lru_cache(maxsize=1)
def fits(cell: Cell) -> dict[str, Fit]:
    """Ours, and SciPy's MINPACK with the same residuals and Jacobian."""
    f, x0 = problem(cell)

    def ours(iterations: int) -> tuple[float, int]:
        result = SOLVERS["levenberg-marquardt"](
            f, x0, maxiter=iterations, maxfun=0, tol=0.0, random_state=None,
            callback=lambda intermediate_result: None,
        )  # fmt: skip
        return result.fun, result.nit

    def minpack(iterations: int) -> tuple[float, int]:
        # An iteration evaluates a Jacobian, and residuals where it leads.
        result = scipy.optimize.least_squares(
            f.residuals, x0, f.jac, method="lm", max_nfev=iterations + 1,
            ftol=1e-15, xtol=1e-15, gtol=1e-15,
        )  # fmt: skip
        return result.cost, result.njev

    return {"fastgd": ours, "MINPACK": minpack}


@functools.lru_cache(maxsize=1)
def iterations(cell: Cell) -> Contest:
    """The same number of iterations, which is what is compared."""
    runs = {name: lambda fit=fit: fit(ITERATIONS)[1:] for name, fit in fits(cell).items()}
    name = "Levenberg–Marquardt, iterations"
    return Contest(name, _named(cell), ITERATIONS, runs, tolerance=0.0).check()


class Way(NamedTuple):
    """The way to the minimum: a contest, everybody's iterations, and their least costs."""

    contest: Contest
    needed: dict[str, int]
    least: dict[str, float]


@functools.lru_cache(maxsize=1)
def way(cell: Cell) -> Way:
    """As many iterations as take each of them to the same cost."""
    least = {name: fit(ENOUGH_ITERATIONS)[0] for name, fit in fits(cell).items()}
    if not _difference(least) <= AT_MINIMUM:
        raise AssertionError(f"{_named(cell)}: not the same minimum: {least}.")
    goal = max(least.values()) * (1.0 + AT_MINIMUM)
    needed = {
        name: next(n for n in itertools.count(1) if fit(n)[0] <= goal)
        for name, fit in fits(cell).items()
    }
    runs = {name: lambda fit=fit, n=needed[name]: fit(n)[:1] for name, fit in fits(cell).items()}
    name = "Levenberg–Marquardt, to the minimum"
    this = Contest(name, _named(cell), 1, runs, tolerance=2 * AT_MINIMUM)
    return Way(this.check(), needed, least)


def _difference(least: dict[str, float]) -> float:
    return abs(least["MINPACK"] / least["fastgd"] - 1.0)


def _named(cell: Cell) -> str:
    return f"{'-'.join(map(str, cell.sizes))}, {cell.n_samples:,} samples, n = {cell.n_parameters}"


def report() -> None:
    """Milliseconds an iteration, and to the minimum."""
    table = Table(["ms an iteration", "fastgd", "MINPACK", "MINPACK / fastgd"])
    for cell in CELLS:
        _row(table, iterations(cell))
    print()
    columns = ["ms to the minimum", "fastgd", "MINPACK", "MINPACK / fastgd"]
    table = Table([*columns, "iterations", "least cost", "differs by"])
    for cell in CELLS:
        contest, needed, least = way(cell)
        counts = " and ".join(map(str, needed.values()))
        _row(table, contest, counts, f"{least['fastgd']:.6g}", f"{_difference(least):.1e}")


def _row(table: Table, contest: Contest, *more: str) -> None:
    seconds = contest.seconds()
    times = (number(1e3 * float(np.median(s)) / contest.steps) for s in seconds.values())
    table.row(contest.cell, *times, spread(*ratio(seconds, "MINPACK")), *more)
