"""fastgd: fits through its public interface, objectives and updates from the inside."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastgd
from bench.cells import Cell, samples
from bench.peers import estimators
from bench.start import start
from fastgd.kernels.layout import layer_table
from fastgd.kernels.losses import CategoricalLogLoss
from fastgd.neural_network.problem import Problem, as_data
from fastgd.optimizers import OPTIMIZERS, Optimizer
from fastgd.solvers import Objective

Run = Callable[[], tuple[Any, ...]]

training = functools.partial(estimators.fit_run, fastgd)
prediction = functools.partial(estimators.prediction_run, fastgd)
learner = functools.partial(estimators.Learner, fastgd)


def objective_and_point(cell: Cell) -> tuple[Objective, NDArray[np.float64]]:
    """The objective of all samples, as SciPy's solvers get it, and where it is asked."""
    X, y = samples(cell)
    layers = layer_table(cell.sizes, (cell.activation,) * (len(cell.sizes) - 2))
    data = as_data(X, y[:, np.newaxis], None)
    problem = Problem(layers, CategoricalLogLoss(), cell.alpha, data, len(X), X.dtype)
    return problem.objective(), start(cell)[0].astype(np.float64)


def gradient(cell: Cell) -> Run:
    """Loss and gradient of all samples at once."""
    objective, w = objective_and_point(cell)
    # An objective remembers its last answer, so it is asked about two points in turn, which are
    # one as soon as they are rounded to the precision of the data.
    points, t = (w, w * (1.0 + 1e-15)), 0

    def run() -> tuple[Any, ...]:
        nonlocal t
        t += 1
        return objective.fun_and_grad(points[t % 2])

    return run


def hessian_product(cell: Cell, v: NDArray[Any]) -> Run:
    """Product of the Hessian with a direction, by the R-operator."""
    objective, w = objective_and_point(cell)
    return lambda: (objective.hessp(w, v),)


def gauss_newton_product(cell: Cell, v: NDArray[Any]) -> Run:
    """Product of the generalised Gauss–Newton matrix with a direction."""
    objective, w = objective_and_point(cell)
    return lambda: (objective.gauss_newton_product(w, v),)


def update_rule(name: str, gradients: NDArray[Any], steps: int) -> Run:
    """Updates by gradients that take turns, from zeros."""
    w = np.zeros(gradients.shape[1], gradients.dtype)
    optimizer, t = Optimizer(OPTIMIZERS[name](), w), 0

    def run() -> tuple[Any, ...]:
        nonlocal t
        for _ in range(steps):
            t += 1
            optimizer.update(w, gradients[t % 2])
        return (w,)

    return run
