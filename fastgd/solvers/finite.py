"""An objective for methods that only know how to leave a point whose value is infinite."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastgd.solvers.objective import Objective


class Finite:
    """An objective with NaN in place of a value turned into infinity, and finite curvature.

    SciPy's trust regions shrink where the value is infinite; with NaN they try the same point
    again and again, and a Hessian that is not finite ends them with an error even where the point
    would have been refused.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    def fun_and_grad(self, w: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = self._objective.fun_and_grad(w)
        return (np.inf if np.isnan(value) else value), gradient

    def hessp(self, w: NDArray[Any], v: NDArray[Any]) -> NDArray[np.float64]:
        return _finite(self._objective.hessp(w, v))

    def hess(self, w: NDArray[Any]) -> NDArray[np.float64]:
        return _finite(self._objective.hess(w))


def _finite(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    # Far below the largest number, so that a norm does not overflow.
    return np.nan_to_num(numbers, nan=0.0, posinf=1e100, neginf=-1e100)
