"""SciPy's own BFGS, the yardstick of comparisons: Nocedal & Wright 2006, algorithm 6.1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import scipy.optimize
from numpy.typing import NDArray

from fastgd.solvers.memory import require_memory
from fastgd.solvers.objective import Objective


def scipy_bfgs(
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

    Each iteration multiplies dense n × n matrices twice, with four of them in memory.
    """
    n = x0.size
    require_memory(32 * n * n, f"solver='scipy-bfgs' with {n} parameters", "Use solver='lbfgs'.")
    return scipy.optimize.minimize(
        objective.fun_and_grad,
        x0,
        method="BFGS",
        jac=True,
        callback=callback,
        options={"maxiter": maxiter, "gtol": tol},
    )
