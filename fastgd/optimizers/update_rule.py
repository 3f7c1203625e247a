"""The decorator of update rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastgd._record import record
from fastgd.optimizers.scipy_method import minimize_by_rule

C = TypeVar("C", bound=type)


def update_rule(**attributes: Any) -> Callable[[C], C]:
    """Class decorator of an update rule, a NamedTuple with a method ``step``.

    Rules are then equal only within one class, and each is a method of
    ``scipy.optimize.minimize``.  A rule works as a ``solver`` without it.

    Parameters
    ----------
    state : tuple of str, optional
        Names of the arrays of the size of the parameters that the rule keeps.
    scalars : tuple of str, optional
        Names of the numbers that it keeps.
    elementwise : bool, optional
        Whether it looks at each parameter by itself, so that several threads may share them.
    solution : str, optional
        Which of its arrays it recommends in the end, instead of the last parameters.

    Examples
    --------
    >>> from typing import NamedTuple
    >>> from fastgd.optimizers import update_rule
    >>> @update_rule(elementwise=True)
    ... class SignDescent(NamedTuple):
    ...     learning_rate: float = 0.01
    ...
    ...     def step(self, w, g, state, scalars, t, learning_rate):
    ...         for i in range(w.size):
    ...             w[i] -= learning_rate if g[i] > 0 else -learning_rate
    """
    return record(__call__=minimize_by_rule, **attributes)
