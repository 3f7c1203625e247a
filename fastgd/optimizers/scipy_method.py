"""Update rules as methods of ``scipy.optimize.minimize``, on any function with a gradient."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy  # which imports its parts when they are asked for

from fastgd._custom_method import (
    CONVERGED,
    MESSAGES,
    NOT_A_NUMBER,
    STOPPED,
    TOO_MANY_ITERATIONS,
    Function,
    checked_start,
    notifier,
    outcome,
    refuse,
)
from fastgd.optimizers.optimizer import Optimizer


def minimize_by_rule(
    rule: Any,
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
    tol: float = 1e-5,
    maxiter: int | None = None,
    disp: bool = False,
    **unknown: Any,
) -> scipy.optimize.OptimizeResult:
    """Minimise a function by an update rule, with the whole gradient in each step.

    ``scipy.optimize.minimize(fun, x0, jac=…, method=Adam(learning_rate=0.01))`` calls this.

    Parameters
    ----------
    rule : update rule
        One that is not made by ``update_rule`` is passed as
        ``method=functools.partial(minimize_by_rule, rule)``.
    fun, x0, args, jac, callback
        As ``scipy.optimize.minimize`` hands them on; without ``jac``, forward differences.
    tol : float, default=1e-5
        Success when no element of the gradient is larger.
    maxiter : int, default=None
        Most steps; None: 1000.

    Returns
    -------
    result : OptimizeResult
        With ``x, fun, jac, nit, nfev, njev, status, success, message``.  Where the function or its
        gradient are not finite any more, ``x`` is the best point before, with a warning.

    Raises
    ------
    ValueError
        There are bounds or constraints, or the function is not finite at ``x0``.

    Examples
    --------
    >>> from scipy.optimize import minimize, rosen, rosen_der
    >>> from fastgd.optimizers import Adam
    >>> adam = Adam(learning_rate=0.05)
    >>> minimize(rosen, [0.5, 0.5], jac=rosen_der, method=adam, options={"maxiter": 5000}).success
    True
    """
    name = type(rule).__name__
    refuse(name, bounds, constraints, hess, hessp, unknown)
    maxiter = 1000 if maxiter is None else maxiter
    for option, number in (("maxiter", maxiter), ("tol", tol)):
        found = np.asarray(number)
        if found.ndim or found.dtype.kind not in "biuf" or np.isnan(found):
            raise ValueError(f"{option} must be a number, got {number!r}.")
    if maxiter < 0:
        raise ValueError(f"maxiter must not be negative, got {maxiter!r}.")
    x = checked_start(x0)
    optimizer = Optimizer(rule, x)
    told, function = notifier(callback), Function(fun, jac, args)
    value, g = function.fun(x), function.grad(x)
    if not (np.isfinite(value) and np.isfinite(g).all()):
        raise ValueError(f"The objective or its gradient is not finite at x0: {value}, {g}.")
    best = x.copy(), value, g
    nit, status = 0, CONVERGED
    while not _has_settled(function, optimizer, x, g, tol):
        if nit >= maxiter:
            status = TOO_MANY_ITERATIONS
            break
        optimizer.update(x, g)
        nit += 1
        value, g = function.fun(x), function.grad(x)
        if not (np.isfinite(value) and np.isfinite(g).all() and np.isfinite(x).all()):
            status = NOT_A_NUMBER
            break
        if value < best[1]:
            best = x.copy(), value, g
        if told(x, value):
            status = STOPPED
            break
    if status == NOT_A_NUMBER:
        warnings.warn(
            f"{name} came to where the function or its gradient is not finite, after {nit} steps;"
            " the best point before that is returned. A smaller learning rate may help.",
            RuntimeWarning,
            stacklevel=3,
        )
        x, value, g = best
    elif (recommended := optimizer.solution(x)) is not x:
        x = np.array(recommended)
        value, g = function.fun(x), function.grad(x)
    if disp:
        print(f"{MESSAGES[status]} Value {value:f} after {nit} steps of {name}.")
    return outcome(status, x=x, fun=value, jac=g, nit=nit, nfev=function.nfev, njev=function.njev)


def _has_settled(function: Function, optimizer: Optimizer, x: Any, g: Any, tol: float) -> bool:
    """Whether the gradient is small at ``x``, and at what the rule recommends instead of it."""
    if np.linalg.norm(g, np.inf) > tol:
        return False
    recommended = optimizer.solution(x)
    return recommended is x or bool(np.linalg.norm(function.grad(recommended), np.inf) <= tol)
