"""Trust region with the whole Hessian: Nocedal & Wright 2006, algorithm 4.3; SciPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import scipy.optimize
from numpy.typing import NDArray

from fastgd.solvers.finite import Finite
from fastgd.solvers.memory import require_memory
from fastgd.solvers.objective import Objective


def trust_exact(
    objective: Objective,
    x0: NDArray[Any],
    *,
    maxiter: int,
    maxfun: int,
    tol: float,
    random_state: Any,
    callback: Callable[..., None],
) -> scipy.optimize.OptimizeResult:
    """Minimise an objective; ``tol`` bounds the norm of the gradient.

    Each step within the region is exact; each iteration needs the n × n Hessian.
    """
    n = x0.size
    require_memory(
        24 * n * n, f"solver='trust-exact' with {n} parameters", "Use solver='trust-krylov'."
    )
    finite = Finite(objective)
    return scipy.optimize.minimize(
        finite.fun_and_grad,
        x0,
        method="trust-exact",
        jac=True,
        hess=finite.hess,
        callback=callback,
        options={"maxiter": maxiter, "gtol": tol},
    )
