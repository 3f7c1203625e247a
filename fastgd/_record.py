"""Small immutable records of hyper-parameters: update rules and loss functions.

They are NamedTuples, because that is what Numba can dispatch on.  A tuple compares equal to any
tuple with the same values; ``record`` makes the class count as well.  ``checked`` is what turns
a record that a user wrote into one that a kernel may get, and ``tried`` calls its methods.
"""

from __future__ import annotations

import functools
import math
import typing
from collections.abc import Callable
from numbers import Real
from typing import Any, TypeVar

import numpy as np

C = TypeVar("C", bound=type)
T = TypeVar("T", bound=tuple[Any, ...])

# A hyper-parameter means the same, and has the same bounds, wherever its name occurs:
# lowest value, whether it is allowed itself, highest value, whether it is allowed itself.
BOUNDS = {
    "learning_rate": (0.0, True, math.inf, False),
    "learning_rate_decay": (0.0, True, math.inf, False),
    "momentum": (0.0, True, math.inf, False),
    "weight_decay": (0.0, True, math.inf, False),
    "momentum_decay": (0.0, True, math.inf, False),
    "beta_1": (0.0, True, 1.0, False),
    "beta_2": (0.0, True, 1.0, False),
    "rho": (0.0, True, 1.0, True),
    "epsilon": (0.0, True, math.inf, False),
    "initial_accumulator": (0.0, True, math.inf, False),
    "eta_minus": (0.0, False, 1.0, False),
    "eta_plus": (1.0, False, math.inf, False),
    "step_size_min": (0.0, True, math.inf, False),
    "step_size_max": (0.0, False, math.inf, False),
    "delta": (0.0, False, math.inf, False),
    "quantile": (0.0, False, 1.0, False),
}


def record(**attributes: Any) -> Callable[[C], C]:
    """Class decorator: records are equal only within one class, and get class attributes.

    (A NamedTuple takes attributes in its body as well, but a type checker does not.)
    """

    def equal(self: Any, other: object) -> bool:
        return type(self) is type(other) and bool(tuple.__eq__(self, other))  # type: ignore

    def unequal(self: Any, other: object) -> bool:
        return not equal(self, other)

    def digest(self: Any) -> int:
        return hash((type(self), *self))

    def decorate(cls: C) -> C:
        attributes.update(__eq__=equal, __ne__=unequal, __hash__=digest)
        for name, value in attributes.items():
            setattr(cls, name, value)
        return cls

    return decorate


def checked(instance: T) -> T:
    """Return the record with each field in its declared type, or say which one is wrong.

    Raises
    ------
    ValueError
        A field is not a number, not finite or out of its bounds.

    Examples
    --------
    >>> from fastgd.optimizers import Adam
    >>> checked(Adam(learning_rate=1)).learning_rate
    1.0
    """
    cls = type(instance)
    declared = _declared_types(cls)
    values = {
        name: _checked_field(cls.__name__, name, getattr(instance, name), declared.get(name, float))
        for name in cls._fields  # type: ignore[attr-defined]
    }
    result = cls(**values)
    if hasattr(result, "check"):
        result.check()
    return result


_declared_types = functools.cache(typing.get_type_hints)


def _checked_field(owner: str, name: str, value: Any, declared: type) -> Any:
    if declared is bool:
        if value not in (True, False):
            raise ValueError(f"{owner}: {name} must be True or False, got {value!r}.")
        return bool(value)
    low, with_low, high, with_high = BOUNDS.get(name, (-math.inf, False, math.inf, False))
    try:
        is_number = isinstance(value, Real) and not (declared is float and isinstance(value, bool))
        number = float(value) if is_number else math.nan
    except OverflowError:
        number = math.nan
    above = number >= low if with_low else number > low
    below = number <= high if with_high else number < high
    if not (above and below):
        interval = f"{'[' if with_low else '('}{low:g}, {high:g}{']' if with_high else ')'}"
        raise ValueError(f"{owner}: {name} must be a number in {interval}, got {value!r}.")
    if declared is int:
        if number != int(number):
            raise ValueError(f"{owner}: {name} must be a whole number, got {value!r}.")
        return int(number)
    return number


def tried(method: Callable[..., Any], *arguments: Any) -> Any:
    """What a method returns in plain Python, or its IndexError if it reaches for what is not there.

    Compiled code reads and writes there, whatever it is.  NotImplemented where plain Python cannot
    tell: compiled code may well do what it does not.
    """
    try:
        with np.errstate(all="ignore"):
            return method(*arguments)
    except IndexError as error:
        return error
    except Exception:
        return NotImplemented
