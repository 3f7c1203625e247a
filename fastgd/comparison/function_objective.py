"""A user's function with the methods of ``fastgd.Objective`` that it can have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class FunctionObjective:
    """A function with its gradient, counted as an ``Objective`` counts.

    Parameters
    ----------
    fun, grad : callable
    x0 : ndarray of shape (n,)
    hessp : callable or None
    """

    loss = None  # it is no network's
    dtype = np.dtype(np.float64)

    def __init__(
        self,
        fun: Callable[..., float],
        grad: Callable[..., Any],
        x0: NDArray[np.float64],
        hessp: Callable[..., Any] | None,
    ) -> None:
        self._fun, self._grad, self._hessp = fun, grad, hessp
        self.x0, self.n_parameters = x0, x0.size
        self.counts = dict.fromkeys(("fun", "fun_and_grad", "hessp", "hess"), 0)
        self._seen: tuple[Any, float, Any] = (None, 0.0, None)

    def fun(self, w: NDArray[Any]) -> float:
        """Value at ``w``."""
        self.counts["fun"] += 1
        with np.errstate(all="ignore"):
            return float(self._fun(w))

    def fun_and_grad(self, w: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
        """Value and gradient at ``w``; asking again for the same point costs nothing."""
        if self._seen[0] is None or not np.array_equal(self._seen[0], w):
            self.counts["fun_and_grad"] += 1
            with np.errstate(all="ignore"):
                gradient = np.asarray(self._grad(w), np.float64)
                if gradient.size != w.size:
                    raise ValueError(
                        f"grad must return an array of shape {w.shape}, got {gradient.shape}."
                    )
                gradient = gradient.reshape(w.shape)
                self._seen = np.array(w), float(self._fun(w)), gradient
        return self._seen[1], self._seen[2].copy()

    def grad(self, w: NDArray[Any]) -> NDArray[np.float64]:
        """Gradient at ``w``."""
        return self.fun_and_grad(w)[1]

    def hessp(self, w: NDArray[Any], v: NDArray[Any]) -> NDArray[np.float64]:
        """Product of the Hessian at ``w`` with ``v``.

        Raises
        ------
        ValueError
            The problem has none.
        """
        if self._hessp is None:
            raise ValueError("This solver needs hessp, which the function's problem has not.")
        self.counts["hessp"] += 1
        return np.asarray(self._hessp(w, v), np.float64)

    def hess(self, w: NDArray[Any]) -> NDArray[np.float64]:
        """The Hessian (n, n) by n products."""
        columns = [self.hessp(w, row) for row in np.eye(self.n_parameters)]
        self.counts["hessp"] -= self.n_parameters
        self.counts["hess"] += 1
        return np.array(columns)

    def normal_equations(self, w: NDArray[Any]) -> Any:
        """There are none of a function that is no sum of squares."""
        raise ValueError("This solver needs a squared error.")
