"""Trust region in a Krylov space: Gould, Lucidi, Roma & Toint 1999; SciPy's, on our products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import scipy.optimize
from numpy.typing import NDArray

from fastgd.solvers.finite import Finite
from fastgd.solvers.objective import Objective


def trust_krylov(
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

    Nearly exact steps within the region by Hessian–vector products alone.
    """
    finite = Finite(objective)
    return scipy.optimize.minimize(
        finite.fun_and_grad,
        x0,
        method="trust-krylov",
        jac=True,
        hessp=finite.hessp,
        callback=callback,
        options={"maxiter": maxiter, "gtol": tol},
    )
