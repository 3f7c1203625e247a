"""Truncated Newton: Nocedal & Wright 2006, algorithm 7.1; SciPy's Newton-CG on our products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from fastgd.solvers.objective import Objective

# Steps of less change a float32 objective by less than its rounding near a minimum, where a line
# search would look in vain for a lower value.
LEAST_STEP_IN_SINGLE = float(np.sqrt(np.finfo(np.float32).eps))


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

    In float32 it is at least ``LEAST_STEP_IN_SINGLE``, √ε.

    The Newton equations are solved by conjugate gradients, one Hessian–vector product for each of
    their steps; a direction of negative curvature ends them.
    """
    if objective.dtype == np.float32:
        tol = max(tol, LEAST_STEP_IN_SINGLE)
    return scipy.optimize.minimize(
        objective.fun_and_grad,
        x0,
        method="Newton-CG",
        jac=True,
        hessp=objective.hessp,
        callback=callback,
        options={"maxiter": maxiter, "xtol": tol},
    )
