"""The line search of SciPy's BFGS: a step that satisfies the strong Wolfe conditions.

Moré & Thuente 1994, "Line search algorithms with guaranteed sufficient decrease", as MINPACK-2's
``dcsrch`` and ``dcstep`` have it, with each operation in their order, so that the steps are the
same numbers; where it fails, the search of ``zoom_search.py``.

φ(α) = f(x + α p) is the objective along the direction p.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastgd.solvers.zoom_search import zoom_search

SMALLEST_STEP, LARGEST_STEP = 1e-100, 1e100
NARROWEST = 1e-14  # relative width of an interval that is worth searching
MOST_STEPS = 100
# Of the Wolfe conditions: sufficient decrease, and curvature.
C1, C2 = 1e-4, 0.9
LEAST_EXTRAPOLATION, MOST_EXTRAPOLATION = 1.1, 4.0


class Point(NamedTuple):
    """A step with φ and φ′ there."""

    step: Any
    value: Any
    slope: Any

    def tilted(self, slope: Any) -> Point:
        """The same for φ(α) − slope · α."""
        return Point(self.step, self.value - self.step * slope, self.slope - slope)

    def untilted(self, slope: Any) -> Point:
        return Point(self.step, self.value + self.step * slope, self.slope + slope)


def line_search(
    fun: Callable[[NDArray[Any]], float],
    grad: Callable[[NDArray[Any]], NDArray[Any]],
    x: NDArray[Any],
    p: NDArray[Any],
    gradient: NDArray[Any],
    value: float,
    previous_value: float,
    c1: float = C1,
    c2: float = C2,
) -> tuple[float, float, NDArray[Any]] | None:
    """Find a step along ``p`` from ``x``.

    Parameters
    ----------
    fun, grad : callable
        The objective and its gradient.
    x, p, gradient : ndarray of shape (n,)
        Where to begin, the direction, the gradient at ``x``.
    value, previous_value : float
        The objective at ``x``, and at the point before it.
    c1, c2 : float
        Of the conditions f(x + αp) ≤ f(x) + c1 α φ′(0) and |φ′(α)| ≤ c2 |φ′(0)|.

    Returns
    -------
    (step, value, gradient) at the new point, or None if no step was found.
    """
    latest = [gradient]

    def phi(step: float) -> float:
        return fun(x + step * p)

    def slope(step: float) -> float:
        latest[0] = grad(x + step * p)
        return np.dot(latest[0], p)

    slope_0 = np.dot(gradient, p)
    first = 1.0
    if slope_0 != 0:
        first = min(1.0, 1.01 * 2 * (value - previous_value) / slope_0)
        first = first if first >= 0 else 1.0
    start = np.float64(value), np.float64(slope_0)
    with np.errstate(all="ignore"):
        found = more_thuente(phi, slope, *start, first, c1, c2)
        if found is not None:
            return found[0], found[1], latest[0]
        second = zoom_search(phi, slope, *start, first, c1, c2, LARGEST_STEP)
    if second is None:
        return None
    step, new_value, is_differentiated = second
    return step, new_value, latest[0] if is_differentiated else grad(x + step * p)


def more_thuente(
    phi: Callable[[Any], Any],
    slope: Callable[[Any], Any],
    value_0: Any,
    slope_0: Any,
    step: Any,
    c1: float,
    c2: float,
) -> tuple[Any, Any] | None:
    """A step that satisfies both conditions, and φ there; None if there is none to be found."""
    if slope_0 >= 0 or not SMALLEST_STEP <= step <= LARGEST_STEP:
        return None
    decrease = c1 * slope_0
    best = other = Point(0.0, value_0, slope_0)
    bracketed, first_stage = False, True
    low, high = 0.0, step + MOST_EXTRAPOLATION * step
    width = LARGEST_STEP - SMALLEST_STEP
    last_width = width / 0.5
    for n_steps in range(MOST_STEPS):
        if not np.isfinite(step):
            return None
        step = np.float64(step)
        here = Point(step, np.float64(phi(step)), np.float64(slope(step)))
        if n_steps == MOST_STEPS - 1:  # MINPACK's loop ends before it looks at the last one
            return None
        bound = value_0 + step * decrease
        if first_stage and here.value <= bound and here.slope >= 0:
            first_stage = False
        if here.value <= bound and abs(here.slope) <= c2 * -slope_0:
            return step, here.value
        if bracketed and (step <= low or step >= high or high - low <= NARROWEST * high):
            return None
        if step == LARGEST_STEP and here.value <= bound and here.slope <= decrease:
            return None
        if step == SMALLEST_STEP and (here.value > bound or here.slope >= decrease):
            return None
        if first_stage and bound < here.value <= best.value:
            # As long as the decrease does not suffice, look for a minimum of φ(α) − c1 α φ′(0).
            best, other, step, bracketed = interpolate(
                best.tilted(decrease), other.tilted(decrease), here.tilted(decrease),
                bracketed, low, high,
            )  # fmt: skip
            best, other = best.untilted(decrease), other.untilted(decrease)
        else:
            best, other, step, bracketed = interpolate(best, other, here, bracketed, low, high)
        if bracketed:
            if abs(other.step - best.step) >= 0.66 * last_width:
                step = best.step + 0.5 * (other.step - best.step)
            last_width, width = width, abs(other.step - best.step)
            low, high = min(best.step, other.step), max(best.step, other.step)
        else:
            low = step + LEAST_EXTRAPOLATION * (step - best.step)
            high = step + MOST_EXTRAPOLATION * (step - best.step)
        step = np.clip(step, SMALLEST_STEP, LARGEST_STEP)
        if bracketed and (step <= low or step >= high or high - low <= NARROWEST * high):
            step = best.step
    return None


def interpolate(
    best: Point, other: Point, here: Point, bracketed: bool, low: Any, high: Any
) -> tuple[Point, Point, Any, bool]:
    """A new step from the points around, and the points between which to search on.

    ``best`` has the least value so far; once a minimum is bracketed it lies between ``best`` and
    ``other``.
    """
    opposite = np.sign(here.slope) * np.sign(best.slope) < 0
    if here.value > best.value:
        # A higher value: the minimum is bracketed.
        share = cubic_share(best, here, theta(best, here))
        cubic = best.step + share * (here.step - best.step)
        slope = (best.value - here.value) / (here.step - best.step) + best.slope
        quadratic = best.step + ((best.slope / slope) / 2.0) * (here.step - best.step)
        if abs(cubic - best.step) <= abs(quadratic - best.step):
            step = cubic
        else:
            step = cubic + (quadratic - cubic) / 2.0
        return best, here, step, True
    if opposite:
        # A lower value and a slope of the other sign: bracketed too.
        share = cubic_share(here, best, theta(best, here))
        cubic = here.step + share * (best.step - here.step)
        secant = here.step + (here.slope / (here.slope - best.slope)) * (best.step - here.step)
        step = cubic if abs(cubic - here.step) > abs(secant - here.step) else secant
        return here, best, step, True
    if abs(here.slope) < abs(best.slope):
        return here, other, flattening_step(best, other, here, bracketed, low, high), bracketed
    # A lower value and a slope that does not get flatter.
    if bracketed:
        share = cubic_share(here, other, theta(other, here))
        step = here.step + share * (other.step - here.step)
    else:
        step = high if here.step > best.step else low
    return here, other, step, bracketed


def flattening_step(
    best: Point, other: Point, here: Point, bracketed: bool, low: Any, high: Any
) -> Any:
    """Where the value is lower and the slope has the same sign, but is flatter."""
    middle = theta(best, here)
    s = max(abs(middle), abs(best.slope), abs(here.slope))
    gamma = s * np.sqrt(max(0, (middle / s) ** 2 - (best.slope / s) * (here.slope / s)))
    if here.step > best.step:
        gamma = -gamma
    p = (gamma - here.slope) + middle
    q = (gamma + (best.slope - here.slope)) + gamma
    r = p / q
    if r < 0 and gamma != 0:
        cubic = here.step + r * (best.step - here.step)
    else:
        # The cubic has no minimum in this direction.
        cubic = high if here.step > best.step else low
    secant = here.step + (here.slope / (here.slope - best.slope)) * (best.step - here.step)
    if not bracketed:
        step = cubic if abs(cubic - here.step) > abs(secant - here.step) else secant
        return np.clip(step, low, high)
    step = cubic if abs(cubic - here.step) < abs(secant - here.step) else secant
    bound = here.step + 0.66 * (other.step - here.step)
    return min(bound, step) if here.step > best.step else max(bound, step)


def theta(old: Point, here: Point) -> Any:
    """MINPACK's θ: what a cubic through two points turns on."""
    return 3.0 * (old.value - here.value) / (here.step - old.step) + old.slope + here.slope


def cubic_share(a: Point, b: Point, middle: Any) -> Any:
    """Where the cubic through two points has its minimum, from ``a`` (0) to ``b`` (1)."""
    s = max(abs(middle), abs(a.slope), abs(b.slope))
    gamma = s * np.sqrt((middle / s) ** 2 - (a.slope / s) * (b.slope / s))
    if b.step < a.step:
        gamma = -gamma
    return ((gamma - a.slope) + middle) / (((gamma - a.slope) + gamma) + b.slope)
