"""Levenberg–Marquardt: Marquardt 1963; Hagan & Menhaj 1994 for networks, with their damping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from fastgd._custom_method import (
    CONVERGED,
    NOT_A_NUMBER,
    PRECISION_LOSS,
    STOPPED,
    TOO_MANY_ITERATIONS,
    notifier,
    outcome,
)
from fastgd.kernels.losses import SquaredError
from fastgd.solvers.cholesky import solve_definite
from fastgd.solvers.memory import require_memory
from fastgd.solvers.objective import NormalEquations, Objective

# MATLAB's trainlm: mu, mu_dec, mu_inc, mu_max.
FIRST_DAMPING, LESS, MORE, MOST_DAMPING = 1e-3, 0.1, 10.0, 1e10
LEAST_DAMPING = 1e-20


def levenberg_marquardt(
    objective: Objective,
    x0: NDArray[Any],
    *,
    maxiter: int,
    maxfun: int,
    tol: float,
    random_state: Any,
    callback: Callable[..., None],
) -> scipy.optimize.OptimizeResult:
    """Minimise a squared error; ``tol`` bounds the largest element of the gradient.

    A step solves (JᵀJ + μI) p = −Jᵀr.  Where it lowers the objective it is taken and μ divided by
    10, else μ is multiplied by 10.  JᵀJ is summed over blocks of samples, so memory grows with n².

    Raises
    ------
    ValueError
        The loss is not the squared error.
    MemoryError
        The n × n matrices would not fit.
    """
    if not isinstance(objective.loss, SquaredError):
        raise ValueError(
            "solver='levenberg-marquardt' needs a squared error, as MLPRegressor has by default,"
            f" but the loss is {type(objective.loss).__name__}."
        )
    n = x0.size
    require_memory(
        24 * n * n, f"solver='levenberg-marquardt' with {n} parameters", "Use solver='lbfgs'."
    )
    told = notifier(callback)
    x, damping = x0.copy(), FIRST_DAMPING
    equations = objective.normal_equations(x)
    nit, status = 0, CONVERGED
    while not (size := np.linalg.norm(equations.grad, np.inf)) <= tol:
        if np.isnan(size):
            status = NOT_A_NUMBER
            break
        if nit == maxiter:
            status = TOO_MANY_ITERATIONS
            break
        found = damped_step(objective, x, equations, damping)
        if found is None:
            status = PRECISION_LOSS
            break
        step, damping = found
        x = x + step
        damping = max(damping * LESS, LEAST_DAMPING)
        equations = objective.normal_equations(x)
        nit += 1
        if told(x, equations.fun):
            status = STOPPED
            break
    return outcome(status, x=x, fun=equations.fun, jac=equations.grad, nit=nit)


def damped_step(
    objective: Objective, x: NDArray[np.float64], equations: NormalEquations, damping: float
) -> tuple[NDArray[np.float64], float] | None:
    """A step that lowers the objective, and its damping; None if even the largest does not."""
    while damping <= MOST_DAMPING:
        step = solve_definite(equations.matrix, damping, -equations.grad)
        if step is not None and objective.fun(x + step) < equations.fun:
            return step, damping
        damping *= MORE
    return None
