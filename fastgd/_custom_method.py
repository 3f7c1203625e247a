"""What a method of one's own gets from ``scipy.optimize.minimize``, and what it owes to it.

SciPy calls ``method(fun, x0, args, jac=…, bounds=…, callback=…, **options)`` and leaves the rest to
the method: derivatives by differences where there is no ``jac``, the count of evaluations, the two
forms of callbacks, the complaints about what the method cannot do.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy  # which imports its parts when they are asked for
from numpy.typing import NDArray

# SciPy's statuses and messages.
CONVERGED, TOO_MANY_ITERATIONS, PRECISION_LOSS, NOT_A_NUMBER, STOPPED = 0, 1, 2, 3, 99
MESSAGES = {
    CONVERGED: "Optimization terminated successfully.",
    TOO_MANY_ITERATIONS: "Maximum number of iterations has been exceeded.",
    PRECISION_LOSS: "Desired error not necessarily achieved due to precision loss.",
    NOT_A_NUMBER: "NaN result encountered.",
    STOPPED: "`callback` raised `StopIteration`.",
}


class Function:
    """A function with its gradient, which counts evaluations and remembers the last of each.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args) -> float``.
    jac : callable or None
        ``jac(x, *args) -> array (n,)``; None: forward differences, as SciPy's methods take them.
    args : tuple
        Further arguments of both.

    Attributes
    ----------
    nfev, njev : int
        Number of evaluations of the function and of its gradient.
    """

    def __init__(
        self, fun: Callable[..., Any], jac: Callable[..., Any] | None, args: tuple[Any, ...]
    ) -> None:
        self._fun, self._jac, self._args = fun, jac, args
        self._valued: tuple[Any, float] = (None, np.nan)
        self._differentiated: tuple[Any, Any] = (None, None)
        self.nfev = self.njev = 0

    def fun(self, x: NDArray[np.float64]) -> float:
        """Value at ``x``."""
        if self._valued[0] is None or not np.array_equal(self._valued[0], x):
            self._valued = x.copy(), self._value(x)
        return self._valued[1]

    def _value(self, x: NDArray[np.float64]) -> float:
        # A copy: what a user's function keeps or changes is its own.
        value = np.asarray(self._fun(x.copy(), *self._args))
        if value.size != 1:
            raise ValueError(
                f"The objective must return a number, but returned the shape {value.shape}."
            )
        self.nfev += 1
        return float(value.item())

    def grad(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Gradient at ``x``."""
        if self._differentiated[0] is None or not np.array_equal(self._differentiated[0], x):
            if self._jac is None:
                gradient = self._differences(x)
            else:
                gradient = np.array(self._jac(x.copy(), *self._args), np.float64).ravel()
            if gradient.shape != x.shape:
                raise ValueError(
                    f"The gradient must have {x.size} elements like x0, but has {gradient.size}."
                )
            self.njev += 1
            self._differentiated = x.copy(), gradient
        return self._differentiated[1]

    def _differences(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        value = self.fun(x)
        step = np.sqrt(np.finfo(float).eps)
        gradient = np.empty_like(x)
        for i in range(x.size):
            moved = x.copy()
            moved[i] += step
            if moved[i] == x[i]:  # lost in rounding
                moved[i] += step * np.copysign(max(1.0, abs(x[i])), x[i])
            gradient[i] = (self._value(moved) - value) / (moved[i] - x[i])
        return gradient


def outcome(status: int, **fields: Any) -> scipy.optimize.OptimizeResult:
    """SciPy's result, with what follows from the status."""
    return scipy.optimize.OptimizeResult(
        status=status, success=status == CONVERGED, message=MESSAGES[status], **fields
    )


def checked_start(x0: Any) -> NDArray[np.float64]:
    """A copy of the first point, float64 of shape (n,)."""
    x = np.array(x0, np.float64).ravel()
    if x.size == 0:
        raise ValueError("x0 must have at least one element, but is empty.")
    return x


def notifier(callback: Callable[..., Any] | None) -> Callable[[NDArray[Any], float], bool]:
    """Make ``told(x, fun)``, which calls a callback in its own form; whether it wants to stop."""
    if callback is None:
        return lambda x, fun: False
    takes_result = set(inspect.signature(callback).parameters) == {"intermediate_result"}

    def told(x: NDArray[Any], fun: float) -> bool:
        try:
            if takes_result:
                result = scipy.optimize.OptimizeResult(x=x.copy(), fun=fun)
                callback(intermediate_result=result)
            else:
                callback(x.copy())
        except StopIteration:
            return True
        return False

    return told


def refuse(
    name: str, bounds: Any, constraints: Any, hess: Any, hessp: Any, unknown: dict[str, Any]
) -> None:
    """Complain of what a method that goes downhill without bounds cannot do.

    Raises
    ------
    ValueError
        There are bounds or constraints.
    """
    if bounds is not None:
        raise ValueError(f"{name} cannot handle bounds; use L-BFGS-B or TNC, for instance.")
    if not _is_nothing(constraints):
        raise ValueError(f"{name} cannot handle constraints; use SLSQP or trust-constr.")
    for kind, given in (("hess", hess), ("hessp", hessp)):
        if given is not None:
            message = f"Method {name} does not use second derivatives ({kind})."
            warnings.warn(message, RuntimeWarning, stacklevel=4)
    if unknown:
        names = ", ".join(unknown)
        message = f"Unknown solver options: {names}"
        warnings.warn(message, scipy.optimize.OptimizeWarning, stacklevel=4)


def _is_nothing(constraints: Any) -> bool:
    return constraints is None or (isinstance(constraints, (tuple, list)) and not constraints)
