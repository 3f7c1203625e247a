"""Learning-rate schedules: factors of the learning rate, as functions of the step.

A schedule is any Python function that takes the number of updates made so far (0, 1, 2, …) and
returns the factor for the next one.  The ones here also take arrays of step numbers.  Where a
schedule needs to know the length of the training and ``total_steps`` is None, the estimator
fills in ``max_iter`` epochs.

``"constant"``, ``"invscaling"`` and ``"adaptive"`` are scikit-learn's: they change the rate at
the end of an epoch, by what happened in it, and belong to the estimator.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class StepDecay:
    """``factor ** floor(step / every)``.

    Examples
    --------
    >>> float(StepDecay(factor=0.5, every=100)(250))
    0.25
    """

    factor: float = 0.1
    every: int = 1000

    def __post_init__(self) -> None:
        _check(self, factor=(0, np.inf), every=(1, np.inf))

    def __call__(self, step: Any) -> Any:
        return self.factor ** np.floor(np.asarray(step) / self.every)


@dataclass(frozen=True)
class ExponentialDecay:
    """``factor ** (step / every)``."""

    factor: float = 0.5
    every: int = 1000

    def __post_init__(self) -> None:
        _check(self, factor=(0, np.inf), every=(1, np.inf))

    def __call__(self, step: Any) -> Any:
        return self.factor ** (np.asarray(step) / self.every)


@dataclass(frozen=True)
class CosineDecay:
    """From 1 to ``final`` along half a cosine (Loshchilov & Hutter 2017, SGDR, eq. 5)."""

    total_steps: int | None = None
    final: float = 0.0

    def __post_init__(self) -> None:
        _check(self, total_steps=(1, sys.maxsize), final=(0, np.inf))

    def __call__(self, step: Any) -> Any:
        done = np.minimum(np.asarray(step) / _known(self), 1.0)
        return _cosine_between(1.0, self.final, done)


@dataclass(frozen=True)
class LinearWarmup:
    """Linearly up to 1 in ``steps`` steps (Goyal et al. 2017, section 2.2), then ``then``."""

    steps: int = 100
    then: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        _check(self, steps=(1, np.inf))
        if not (self.then is None or callable(self.then)) or isinstance(self.then, type):
            raise ValueError(f"LinearWarmup: then must be a function or None, got {self.then!r}.")

    def __call__(self, step: Any) -> Any:
        step = np.asarray(step)
        rise = np.minimum((step + 1) / self.steps, 1.0)
        if self.then is None:
            return rise
        return rise * factors(self.then, np.maximum(step - self.steps, 0))


@dataclass(frozen=True)
class OneCycle:
    """Up and down again (Smith & Topin 2018), both along half a cosine, PyTorch's form.

    The factor goes from ``initial`` to 1 in the first ``rise`` of the training, then to
    ``final``.
    """

    total_steps: int | None = None
    rise: float = 0.3
    initial: float = 1 / 25
    final: float = 1 / 250_000

    def __post_init__(self) -> None:
        _check(
            self, total_steps=(1, sys.maxsize), rise=(0, 1), initial=(0, np.inf), final=(0, np.inf)
        )

    def __call__(self, step: Any) -> Any:
        # The top may lie before the first step: then all go down.
        last, top = _known(self) - 1, self.rise * _known(self) - 1
        step = np.minimum(np.asarray(step), last)
        up = _cosine_between(self.initial, 1.0, np.minimum(step / max(top, 1e-12), 1.0))
        down = _cosine_between(1.0, self.final, np.maximum(step - top, 0) / max(last - top, 1e-12))
        return np.where(step <= top, up, down)


SCHEDULES: dict[str, type] = {
    "step": StepDecay,
    "exponential": ExponentialDecay,
    "cosine": CosineDecay,
    "warmup": LinearWarmup,
    "one-cycle": OneCycle,
}


def _check(schedule: Any, **bounds: tuple[float, float]) -> None:
    """Complain of a field that is not within its bounds."""
    for name, (low, high) in bounds.items():
        value = getattr(schedule, name)
        if value is None:
            continue
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not (is_number and low <= float(value) <= high):
            raise ValueError(
                f"{type(schedule).__name__}: {name} must be in [{low:g}, {high:g}], got {value!r}."
            )


def over(schedule: Any, total_steps: int) -> Any:
    """Fill in the length of the training where a schedule leaves it open.

    Raises
    ------
    ValueError
        It is a class, not an object of it.
    """
    if isinstance(schedule, type):
        name = schedule.__name__
        raise ValueError(f"schedule must be a function of the step, such as {name}(), got {name}.")
    then = getattr(schedule, "then", None)
    is_warmup = dataclasses.is_dataclass(schedule) and hasattr(schedule, "steps")
    if is_warmup and dataclasses.is_dataclass(then) and not isinstance(then, type):
        schedule = dataclasses.replace(
            schedule, then=over(then, max(total_steps - schedule.steps, 1))
        )
    is_open = getattr(schedule, "total_steps", 0) is None
    if is_open and dataclasses.is_dataclass(schedule):
        schedule = dataclasses.replace(schedule, total_steps=total_steps)  # type: ignore[type-var]
    return schedule


def factors(schedule: Callable[[Any], Any], steps: NDArray[np.int64]) -> NDArray[np.float64]:
    """The factors for several steps, from any function of the step.

    Raises
    ------
    ValueError
        The schedule returned something else than a finite number of at least 0.
    """
    if type(schedule) in SCHEDULES.values():
        found = schedule(steps)
    else:
        found = [schedule(int(step)) for step in np.ravel(steps)]
    try:
        result = np.array(found, np.float64).reshape(np.shape(steps))
    except (TypeError, ValueError, OverflowError):
        result = np.array(np.nan)
    if not (np.isfinite(result) & (result >= 0)).all():
        raise ValueError(
            f"schedule must return finite factors of at least 0, got {found!r} for the steps"
            f" {np.ravel(steps)[0]} to {np.ravel(steps)[-1]} from {schedule!r}."
        )
    return result


def _known(schedule: Any) -> int:
    if schedule.total_steps is None:
        raise ValueError(f"{type(schedule).__name__} needs total_steps outside of an estimator.")
    return int(schedule.total_steps)


def _cosine_between(start: float, stop: float, done: Any) -> Any:
    return stop + (start - stop) * (1 + np.cos(np.pi * done)) / 2
