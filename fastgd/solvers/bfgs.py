"""BFGS: Nocedal & Wright 2006, algorithm 6.1, with the matrix updated in O(n²)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from fastgd._custom_method import (
    CONVERGED,
    MESSAGES,
    NOT_A_NUMBER,
    PRECISION_LOSS,
    STOPPED,
    TOO_MANY_ITERATIONS,
    Function,
    checked_start,
    notifier,
    outcome,
    refuse,
)
from fastgd.kernels.quasi_newton import update_and_multiply
from fastgd.solvers.line_search import C1, C2, line_search
from fastgd.solvers.memory import require_memory
from fastgd.solvers.objective import Objective

# What SciPy takes for 1 / yᵀs where that cannot be had.
LARGE_RHO = 1000.0
# From yᵀHy / yᵀs on, the update in one sum loses so many times the rounding error.
CANCELS = 1e4


def bfgs(
    objective: Objective,
    x0: NDArray[Any],
    *,
    maxiter: int,
    maxfun: int,
    tol: float,
    random_state: Any,
    callback: Callable[..., None],
) -> scipy.optimize.OptimizeResult:
    """Minimise an objective by BFGS; ``tol`` bounds the largest element of the gradient."""
    return scipy.optimize.minimize(
        objective.fun_and_grad,
        x0,
        method=minimize_bfgs,
        jac=True,
        callback=callback,
        options={"maxiter": maxiter, "gtol": tol},
    )


def minimize_bfgs(
    fun: Callable[..., Any],
    x0: Any,
    args: tuple[Any, ...] = (),
    *,
    jac: Callable[..., Any] | None = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    callback: Callable[..., Any] | None = None,
    gtol: float | None = None,
    norm: float = np.inf,
    maxiter: int | None = None,
    xrtol: float = 0.0,
    c1: float = C1,
    c2: float = C2,
    tol: float | None = None,
    disp: bool = False,
    **unknown: Any,
) -> scipy.optimize.OptimizeResult:
    """BFGS as a method of ``scipy.optimize.minimize``, with the steps of SciPy's own.

    The same line search, the same results, to rounding, and these of its options.  SciPy
    multiplies n × n matrices twice in each iteration, O(n³); here the update of rank two is applied
    to half of one symmetric matrix, which is also multiplied by the next gradient on the way:
    O(n²), one pass over 4 n² bytes, and one matrix of memory; a second one where the curvature is
    far above what was known of it.

    Parameters
    ----------
    fun, x0, args, jac, callback
        As ``scipy.optimize.minimize`` hands them on.
    gtol : float, default=1e-5
        Success when the norm of the gradient is not larger; ``tol`` if it is not given.
    norm : float, default=inf
        Order of that norm.
    maxiter : int, default=None
        Most iterations; None: 200 n.
    xrtol : float, default=0
        Success when a step is smaller, relative to x.
    c1, c2 : float, default=1e-4 and 0.9
        Of the Wolfe conditions, ``0 < c1 < c2 < 1``.

    Returns
    -------
    result : OptimizeResult
        With ``x, fun, jac, hess_inv, nit, nfev, njev, status, success, message``.

    Raises
    ------
    ValueError
        There are bounds or constraints, or ``c1`` and ``c2`` are out of order.
    MemoryError
        The n × n matrix would not fit.

    Examples
    --------
    >>> from scipy.optimize import minimize, rosen, rosen_der
    >>> from fastgd import minimize_bfgs
    >>> minimize(rosen, [1.3, 0.7, 0.8], jac=rosen_der, method=minimize_bfgs).x.round(4)
    array([1., 1., 1.])
    """
    refuse("BFGS", bounds, constraints, hess, hessp, unknown)
    if not 0 < c1 < c2 < 1:
        raise ValueError(f"c1 and c2 must satisfy 0 < c1 < c2 < 1, got c1={c1!r} and c2={c2!r}.")
    x = checked_start(x0)
    require_memory(2 * 8 * x.size**2, f"BFGS with {x.size} parameters", "Use L-BFGS ('lbfgs').")
    gtol = next(value for value in (gtol, tol, 1e-5) if value is not None)
    maxiter = 200 * x.size if maxiter is None else maxiter
    told, function = notifier(callback), Function(fun, jac, args)
    value, g = function.fun(x), function.grad(x)
    previous = value + float(np.linalg.norm(g)) / 2  # so that the first step is about 1 long
    matrix = InverseHessian(x.size)
    p = -g
    nit, status = 0, CONVERGED
    size = np.linalg.norm(g, norm)
    while size > gtol and nit < maxiter:
        found = line_search(function.fun, function.grad, x, p, g, value, previous, c1, c2)
        if found is None:
            status = PRECISION_LOSS
            break
        step, new_value, new_g = found
        s, y = step * p, new_g - g
        x, g, previous, value = x + s, new_g, value, new_value
        nit += 1
        if told(x, value):
            status = STOPPED
            break
        size = np.linalg.norm(g, norm)
        if size <= gtol or step * np.linalg.norm(p) <= xrtol * (xrtol + np.linalg.norm(x)):
            break
        if not np.isfinite(value):
            status = PRECISION_LOSS
            break
        p = matrix.next_direction(s, y, g, p)
    if status == CONVERGED and nit >= maxiter:
        status = TOO_MANY_ITERATIONS
    if status == CONVERGED and (np.isnan(size) or np.isnan(value) or np.isnan(x).any()):
        status = NOT_A_NUMBER
    if disp:
        print(f"{MESSAGES[status]} Value {value:f} after {nit} iterations.")
    return outcome(
        status, x=x, fun=value, jac=g, hess_inv=matrix.whole(), nit=nit, nfev=function.nfev,
        njev=function.njev,
    )  # fmt: skip


class InverseHessian:
    """The approximation H of the inverse Hessian: its lower triangle, and an update that waits.

    With ρ = 1 / yᵀs the update is H ← (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ, which is::

        H ← H − ρ (s hᵀ + h sᵀ) + (ρ + ρ² yᵀh) s sᵀ        h = H y

    H y is H g minus H times the last gradient, which was the last direction; and the new H times
    the new gradient follows from H g.  So all that an iteration needs of the matrix is one
    product, and the update can wait for the next one.
    """

    def __init__(self, n: int) -> None:
        self._matrix = np.zeros((n, n))
        self._matrix[np.arange(n), np.arange(n)] = 1.0
        nothing = np.zeros(n)
        self._waiting = nothing, nothing, 0.0, 0.0

    def next_direction(
        self,
        s: NDArray[np.float64],
        y: NDArray[np.float64],
        g: NDArray[np.float64],
        p: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Note a step ``s``, which changed the gradient by ``y`` to ``g``; −H g of the new H.

        ``p`` is what was returned last.
        """
        product = self._product(g)
        curvature = np.dot(y, s)
        rho = LARGE_RHO if curvature == 0.0 else 1.0 / curvature
        h = product + p
        if abs(rho * np.dot(y, h)) > CANCELS:
            self._update_in_two_steps(s, y, rho)
            return -self._product(g)
        once, twice = rho, rho + rho * rho * np.dot(y, h)
        self._waiting = s, h, once, twice
        along = np.dot(s, g)
        return -(product - once * (s * np.dot(h, g) + h * along) + twice * along * s)

    def whole(self) -> NDArray[np.float64]:
        """H (n, n), with the update that waited."""
        matrix = self._matrix
        self._product(np.zeros(len(matrix)))
        for i in range(len(matrix)):
            matrix[i, i + 1 :] = matrix[i + 1 :, i]
        return matrix

    def _product(self, g: NDArray[np.float64]) -> NDArray[np.float64]:
        """H g, after the update that waited."""
        product = np.zeros_like(g)
        update_and_multiply(self._matrix, *self._waiting, g, product)
        self._waiting = (*self._waiting[:2], 0.0, 0.0)
        return product

    def _update_in_two_steps(
        self, s: NDArray[np.float64], y: NDArray[np.float64], rho: float
    ) -> None:
        """H ← (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ, one factor after the other.

        Where the curvature along s is far above what H says, the terms of the sum cancel.  And a
        factor's diagonal 1 − ρ sᵢ yᵢ, often 0, is rounded before it meets H, as in SciPy: else it
        would leave a rounding error of the old H, which can be more than all of the new one.
        """
        matrix = self.whole()
        diagonal, along = (1.0 - s * y * rho)[:, None], (rho * s)[:, None]
        others = np.empty_like(matrix)
        for rows in (matrix, matrix.T):
            others[:] = 0.0  # for each row, the sum of yₖ times all other rows k
            for order in (range(len(s)), reversed(range(len(s)))):
                total = np.zeros_like(s)
                for i in order:
                    others[i] += total
                    total += y[i] * rows[i]
            rows *= diagonal
            others *= along
            rows -= others
        for i, row in enumerate(matrix):
            row += rho * s[i] * s
