"""Damped Newton: Nocedal & Wright 2006, algorithms 3.2 and 3.3."""

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
from fastgd.solvers.cholesky import solve_definite
from fastgd.solvers.line_search import line_search
from fastgd.solvers.memory import require_memory
from fastgd.solvers.objective import Objective

LEAST_SHIFT = 1e-3  # of the diagonal of a Hessian that is not positive definite


def newton(
    objective: Objective,
    x0: NDArray[Any],
    *,
    maxiter: int,
    maxfun: int,
    tol: float,
    random_state: Any,
    callback: Callable[..., None],
) -> scipy.optimize.OptimizeResult:
    """Minimise an objective; ``tol`` bounds the largest element of the gradient.

    A step solves (H + λI) p = −g, where λ is 0 if the Hessian is positive definite, and else large
    enough to make it so; its length satisfies the strong Wolfe conditions, 1 being tried first.
    """
    n = x0.size
    require_memory(24 * n * n, f"solver='newton' with {n} parameters", "Use solver='newton-cg'.")
    told = notifier(callback)

    def value_at(w: NDArray[Any]) -> float:
        return objective.fun_and_grad(w)[0]  # the gradient will be asked for as well

    x = x0.copy()
    value, g = objective.fun_and_grad(x)
    nit, status = 0, CONVERGED
    while not (size := np.linalg.norm(g, np.inf)) <= tol:
        if not np.isfinite(size):
            status = NOT_A_NUMBER
            break
        if nit == maxiter:
            status = TOO_MANY_ITERATIONS
            break
        p = newton_step(objective.hess(x), g)
        # An infinite last improvement makes the search begin with the whole step.
        found = line_search(value_at, objective.grad, x, p, g, value, np.inf)
        if found is None or not np.isfinite(found[1]):
            status = PRECISION_LOSS
            break
        step, value, g = found
        x = x + step * p
        nit += 1
        if told(x, value):
            status = STOPPED
            break
    return outcome(status, x=x, fun=value, jac=g, nit=nit)


def newton_step(hessian: NDArray[np.float64], g: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve (H + λI) p = −g with the first λ that makes H + λI positive definite.

    Of 0, 1e-3, 2e-3, 4e-3 …, or where H has a diagonal element d ≤ 0, of 1e-3 − d and its doubles:
    Nocedal and Wright, algorithm 3.3.
    """
    if not (np.isfinite(hessian).all() and np.isfinite(g).all()):
        return -g
    lowest = hessian.diagonal().min()
    shift = 0.0 if lowest > 0 else LEAST_SHIFT - lowest
    while (step := solve_definite(hessian, shift, -g)) is None:
        shift = max(2 * shift, LEAST_SHIFT)
    return step
