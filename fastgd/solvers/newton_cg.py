"""Truncated Newton: Nocedal & Wright 2006, algorithm 7.1; SciPy's Newton-CG on our products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import scipy.optimize
from numpy.typing import NDArray

from fastgd.solvers.objective import Objective


def newton_cg(
    objective: Objective,
    x0: NDArray[Any],
    *,
    maxiter: int,
    maxfun: int,
    tol: float,
    random_state: Any,
    callback: Callable[..., None],
) -> scipy.optimize.OptimizeResult:
    """Minimise an objective; ``tol`` bounds the mean change of a parameter in a step.

    The Newton equations are solved by conjugate gradients, one Hessian–vector product for each of
    their steps; a direction of negative curvature ends them.
    """
    return scipy.optimize.minimize(
        objective.fun_and_grad,
        x0,
        method="Newton-CG",
        jac=True,
        hessp=objective.hessp,
        callback=callback,
        options={"maxiter": maxiter, "xtol": tol},
    )
