"""BFGS: Nocedal & Wright 2006, algorithm 6.1; SciPy's own implementation as the yardstick."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import scipy.optimize
from numpy.typing import NDArray

from fastgd.solvers.objective import Objective


def scipy_bfgs(
    objective: Objective,
    x0: NDArray[Any],
    *,
    maxiter: int,
    maxfun: int,
    tol: float,
    callback: Callable[..., None],
) -> scipy.optimize.OptimizeResult:
    """Minimise an objective with SciPy's BFGS; ``maxfun`` is not known to it.

    It keeps dense n × n matrices and multiplies two of them in each iteration.
    """
    return scipy.optimize.minimize(
        objective.fun_and_grad,
        x0,
        method="BFGS",
        jac=True,
        callback=callback,
        options={"maxiter": maxiter, "gtol": tol},
    )
