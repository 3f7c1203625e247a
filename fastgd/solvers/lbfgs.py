"""L-BFGS: Liu & Nocedal 1989; SciPy's L-BFGS-B, called as scikit-learn calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import scipy.optimize
from numpy.typing import NDArray

from fastgd.solvers.objective import Objective


def lbfgs(
    objective: Objective,
    x0: NDArray[Any],
    *,
    maxiter: int,
    maxfun: int,
    tol: float,
    random_state: Any,
    callback: Callable[..., None],
) -> scipy.optimize.OptimizeResult:
    """Minimise an objective; ``tol`` bounds the largest element of the gradient."""
    return scipy.optimize.minimize(
        objective.fun_and_grad,
        x0,
        method="L-BFGS-B",
        jac=True,
        callback=callback,
        options={"maxiter": maxiter, "maxfun": maxfun, "gtol": tol},
    )
