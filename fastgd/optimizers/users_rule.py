"""A user's update rule, tried out in plain Python before it is compiled."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fastgd._record import tried

# Parameters for which a few steps in plain Python take no time that anybody notices.
FEW = 1024
# Steps that are tried, one after the other and with gradients of both signs: many a rule does
# something else in its first ones, and some after many.  So many of a parameter or two, and so many
# single updates of more.
MOST_STEPS, UPDATES = 200, 3 * FEW


def check_indices(rule: Any, n: int, dtype: Any) -> None:
    """Take some steps in plain Python, which notices what compiled code does not.

    Raises
    ------
    ValueError
        A step reaches for what is not there: a state array or a scalar that the rule has not
        declared, or a parameter.
    """
    cls: Any = type(rule)
    _check_once(cls, cls.step, rule, n, np.dtype(dtype))


@functools.lru_cache(maxsize=128)  # by the class, too: tuples of different ones may be equal
def _check_once(cls: Any, step: Any, rule: Any, n: int, dtype: np.dtype[Any]) -> None:
    # An elementwise rule gets any part of the parameters.
    n_few = min(n, 2 if getattr(rule, "elementwise", False) else FEW)
    error = _error(rule, n_few, dtype)
    if error is not None and n_few == FEW < n:
        error = _error(rule, n, dtype)
    if error is not None:
        raise ValueError(
            f"{cls.__name__}.step: {error}. The rule declares the state arrays"
            f" {names_of(rule, 'state')} and the scalars {names_of(rule, 'scalars')}; name all that"
            " the step uses in its class attributes state and scalars."
        ) from error


def _error(rule: Any, n: int, dtype: Any) -> IndexError | None:
    w, signs = np.zeros(n, dtype), np.ones(n, dtype)
    signs[::2] = -1.0
    state = np.zeros((len(names_of(rule, "state")), n), dtype)
    scalars = np.zeros(len(names_of(rule, "scalars")))
    for t in range(1, max(2, min(MOST_STEPS, UPDATES // max(n, 1))) + 1):
        g = signs * (-1.0) ** t
        result = tried(rule.step, w, g, state, scalars, t, rule.learning_rate)
        if isinstance(result, IndexError):
            return result
    return None


def names_of(rule: Any, attribute: str) -> tuple[str, ...]:
    """What a rule declares: the names of its state arrays, or of its scalars."""
    names = getattr(rule, attribute, ())
    if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"{type(rule).__name__}: {attribute} must be a tuple of names, such as ('average',),"
            f" got {names!r}."
        )
    return tuple(names)
