"""Differential evolution, a genetic search: Storn & Price 1997; SciPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from fastgd.solvers.box import search_box
from fastgd.solvers.memory import require_memory
from fastgd.solvers.objective import Objective


def differential_evolution(
    objective: Objective,
    x0: NDArray[Any],
    *,
    maxiter: int,
    maxfun: int,
    tol: float,
    random_state: Any,
    callback: Callable[..., None],
) -> scipy.optimize.OptimizeResult:
    """Minimise an objective without gradients; ``tol`` bounds the spread of the values.

    An iteration is a generation of 15 n parameter vectors, the initial weights among the first.
    What is returned is what the evolution found, without a descent at the end.
    """
    n = x0.size
    require_memory(
        8 * 15 * n * n,
        f"solver='differential-evolution' with {n} parameters",
        "Use solver='lbfgs'.",
    )
    result = scipy.optimize.differential_evolution(
        objective.fun,
        search_box(x0, "differential-evolution"),
        x0=x0,
        maxiter=maxiter,
        tol=tol,
        polish=False,
        rng=np.random.default_rng(random_state.randint(2**31 - 1)),
        callback=callback,
    )
    result.status = 0 if result.success else 1
    return result
