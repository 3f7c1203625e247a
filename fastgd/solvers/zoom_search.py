"""The second line search of SciPy's BFGS: Nocedal & Wright 2006, algorithms 3.5 and 3.6.

With each operation in SciPy's order, so that the steps are the same numbers, but without its
warnings: what silences them for one thread would silence those of all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

MOST_ROUNDS = 10
# A step nearer to an end than this share of the interval is not taken from a cubic, a parabola.
CUBIC_MARGIN, PARABOLA_MARGIN = 0.2, 0.1


def zoom_search(
    phi: Callable[[Any], Any],
    slope: Callable[[Any], Any],
    value_0: Any,
    slope_0: Any,
    step: Any,
    c1: float,
    c2: float,
    largest: float,
) -> tuple[Any, Any, bool] | None:
    """A step that satisfies the strong Wolfe conditions (algorithm 3.5).

    Parameters
    ----------
    phi, slope : callable
        φ(α) = f(x + α p), and its derivative.
    value_0, slope_0 : float
        φ(0) and φ′(0).
    step : float
        The first one to try.
    c1, c2, largest : float

    Returns
    -------
    (step, value, differentiated) or None
        ``differentiated`` says whether the last slope was taken there; None: nothing was found.
    """
    before, value_before, slope_before = 0.0, value_0, slope_0
    value = phi(step)
    for n_rounds in range(MOST_ROUNDS):
        if step == 0 or before > largest:
            return None
        too_high = value > value_0 + c1 * step * slope_0
        if too_high or (value >= value_before and n_rounds > 0):
            return _zoom(
                before, step, value_before, value, slope_before, phi, slope, value_0, slope_0,
                c1, c2,
            )  # fmt: skip
        here = slope(step)
        if abs(here) <= -c2 * slope_0:
            return step, value, True
        if here >= 0:
            return _zoom(
                step, before, value, value_before, here, phi, slope, value_0, slope_0, c1, c2
            )
        before, value_before, slope_before = step, value, here
        step = min(2 * step, largest)
        value = phi(step)
    return step, value, False


def _zoom(
    low: Any, high: Any, value_low: Any, value_high: Any, slope_low: Any,
    phi: Callable[[Any], Any], slope: Callable[[Any], Any], value_0: Any, slope_0: Any,
    c1: float, c2: float,
) -> tuple[Any, Any, bool] | None:  # fmt: skip
    """Shrink an interval that holds such a step (algorithm 3.6); ``low`` has the lower value."""
    last, value_last = 0.0, value_0
    for n_rounds in range(MOST_ROUNDS + 1):
        step = _between(low, high, value_low, value_high, slope_low, last, value_last, n_rounds)
        value = phi(step)
        if value > value_0 + c1 * step * slope_0 or value >= value_low:
            last, value_last = high, value_high
            high, value_high = step, value
            continue
        here = slope(step)
        if abs(here) <= -c2 * slope_0:
            return step, value, True
        if here * (high - low) >= 0:
            last, value_last = high, value_high
            high, value_high = low, value_low
        else:
            last, value_last = low, value_low
        low, value_low, slope_low = step, value, here
    return None


def _between(
    low: Any, high: Any, value_low: Any, value_high: Any, slope_low: Any, last: Any,
    value_last: Any, n_rounds: int,
) -> Any:  # fmt: skip
    """A step from the cubic through three points, else from the parabola, else the middle."""
    width = high - low
    a, b = (high, low) if width < 0 else (low, high)
    if n_rounds > 0:
        step = _cubic(low, value_low, slope_low, high, value_high, last, value_last)
        margin = CUBIC_MARGIN * width
        if np.isfinite(step) and not (step > b - margin or step < a + margin):
            return step
    step = _parabola(low, value_low, slope_low, high, value_high)
    margin = PARABOLA_MARGIN * width
    if np.isfinite(step) and not (step > b - margin or step < a + margin):
        return step
    return low + 0.5 * width


def _cubic(a: Any, at_a: Any, slope: Any, b: Any, at_b: Any, c: Any, at_c: Any) -> Any:
    """Where the cubic through three points with a slope at the first is lowest; NaN: nowhere."""
    to_b, to_c = np.float64(b - a), np.float64(c - a)
    with np.errstate(all="raise", under="ignore"):
        try:
            denominator = (to_b * to_c) ** 2 * (to_b - to_c)
            matrix = np.array([[to_c**2, -(to_b**2)], [-(to_c**3), to_b**3]])
            right = np.array([at_b - at_a - slope * to_b, at_c - at_a - slope * to_c])
            third, second = np.dot(matrix, right) / denominator
            radical = second * second - 3 * third * slope
            return a + (-second + np.sqrt(radical)) / (3 * third)
        except ArithmeticError:
            return np.nan


def _parabola(a: Any, at_a: Any, slope: Any, b: Any, at_b: Any) -> Any:
    """Where the parabola through two points with a slope at the first is lowest; NaN: nowhere."""
    to_b = np.float64(b - a)
    with np.errstate(all="raise", under="ignore"):
        try:
            second = (at_b - at_a - slope * to_b) / (to_b * to_b)
            return a - slope / (2.0 * second)
        except ArithmeticError:
            return np.nan
