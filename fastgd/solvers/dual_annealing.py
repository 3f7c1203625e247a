"""Simulated annealing in its generalised form: Xiang, Sun, Fan & Gong 1997; SciPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from fastgd.solvers.box import search_box
from fastgd.solvers.objective import Objective


def dual_annealing(
    objective: Objective,
    x0: NDArray[Any],
    *,
    maxiter: int,
    maxfun: int,
    tol: float,
    random_state: Any,
    callback: Callable[..., None],
) -> scipy.optimize.OptimizeResult:
    """Minimise an objective by annealing, with a descent by L-BFGS-B from what looks promising.

    An iteration visits 2 n points.  The callback, and so the curves, hear of each new best point
    rather than of each iteration; ``tol`` is that of the descents, ``maxfun`` bounds all
    evaluations.
    """
    stopped = False

    def tell(x: NDArray[Any], value: float, context: int) -> bool:
        nonlocal stopped
        try:
            callback(intermediate_result=scipy.optimize.OptimizeResult(x=x.copy(), fun=value))
        except StopIteration:
            stopped = True
        return stopped

    box = search_box(x0, "dual-annealing")
    descent = {"method": "L-BFGS-B", "jac": objective.grad, "bounds": box, "options": {"gtol": tol}}
    result = scipy.optimize.dual_annealing(
        objective.fun,
        box,
        x0=x0,
        maxiter=maxiter,
        maxfun=maxfun,
        minimizer_kwargs=descent,
        rng=np.random.default_rng(random_state.randint(2**31 - 1)),
        callback=tell,
    )
    result.message = "; ".join(result.message)
    result.status = 99 if stopped else int(not result.success)
    return result
