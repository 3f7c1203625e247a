"""The figures of a comparison: bands, times to a target, profiles, and what can be told apart.

Shape letters: S solvers, P problems or instances, R seeds, G points of a grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

# The band of a plot, in per cent; the median lies between.
BAND = (20, 80)
# The area under a performance profile is taken up to this ratio, on a log scale.
LARGEST_RATIO = 4.0
CONFIDENCE = 0.95
# A run that missed its target counts, where a number is needed, as if it had taken so many budgets.
MISSED = 2.0


def values_at(
    costs: Sequence[float], values: Sequence[float], grid: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The lowest value up to each cost of the grid; NaN before the first point."""
    lowest = np.minimum.accumulate(np.nan_to_num(np.asarray(values, float), nan=np.inf))
    places = np.searchsorted(np.asarray(costs, float), grid, side="right") - 1
    return np.where(places >= 0, lowest[np.maximum(places, 0)], np.nan)


def band(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """20th percentile, median and 80th over seeds (R, G); shape (3, G)."""
    # Percentiles of the given values themselves: between infinity and a number lies no mean.
    low, high = np.percentile(curves, BAND, axis=0, method="inverted_cdf")
    # Of two in the middle the worse one, as in the medians of costs.
    return np.stack([low, np.percentile(curves, 50, axis=0, method="higher"), high])


def first_cost(costs: Sequence[float], gaps: Sequence[float], target: float) -> float:
    """The cost at which a gap is first at most ``target``; ∞ if it never is."""
    for cost, gap in zip(costs, gaps, strict=True):
        if gap <= target:
            return float(cost)
    return math.inf


def median_cost(costs: Sequence[float]) -> float:
    """The median over seeds, ∞ where at least half of them missed."""
    return float(np.percentile(costs, 50, method="higher")) if len(costs) else math.inf


class Profile(NamedTuple):
    """Shares of instances that each solver has solved, as a function of x.

    Attributes
    ----------
    x : ndarray of shape (G,)
        Ratio to the best solver (performance profile) or cost (data profile).
    shares : dict of str to ndarray of shape (G,)
    area : dict of str to float
        Mean share over log x up to 4, for a performance profile.
    """

    x: NDArray[np.float64]
    shares: dict[str, NDArray[np.float64]]
    area: dict[str, float]


def performance_profile(costs: dict[str, NDArray[np.float64]], n_points: int = 200) -> Profile:
    """Dolan & Moré 2002: the share of instances that a solver solves within τ times the best cost.

    Parameters
    ----------
    costs : dict of str to ndarray of shape (P,)
        Of each solver on each instance, ∞ for a miss.

    Notes
    -----
    Ratios are to the best of the solvers present, so a profile changes when one is added; those of
    two solvers alone are what settles which of the two is better (Gould & Scott 2016).
    """
    matrix = np.array(list(costs.values()), float)
    x = np.geomspace(1.0, LARGEST_RATIO**2, n_points)
    best = matrix.min(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.where(np.isfinite(matrix), matrix / best, np.inf)
    ratios[np.isfinite(matrix) & (matrix == best)] = 1.0  # also where the best cost is 0
    shares = {
        name: (row[:, None] <= x * (1 + 1e-12)).mean(axis=0)
        for name, row in zip(costs, ratios, strict=True)
    }
    within = x <= LARGEST_RATIO * (1 + 1e-12)
    area = {name: float(share[within].mean()) for name, share in shares.items()}
    return Profile(x, shares, area)


def data_profile(costs: dict[str, NDArray[np.float64]], n_points: int = 200) -> Profile:
    """Moré & Wild 2009: the share of instances that a solver solves within a cost."""
    matrix = np.array(list(costs.values()), float)
    finite = matrix[np.isfinite(matrix) & (matrix > 0)]
    low, high = (finite.min(), finite.max()) if finite.size else (1.0, 1.0)
    x = np.geomspace(low, max(high, low * 1.001), n_points)
    shares = {
        name: (row[:, None] <= x * (1 + 1e-12)).mean(axis=0)
        for name, row in zip(costs, matrix, strict=True)
    }
    return Profile(x, shares, {})


class Verdict(NamedTuple):
    """Which of two solvers is cheaper on a problem, as far as seeds can tell.

    Attributes
    ----------
    ratio : float
        Geometric mean over seeds of cost of the second over cost of the first.
    low, high : float
        Its 95 % interval.
    """

    ratio: float
    low: float
    high: float

    @property
    def winner(self) -> int:
        """0: the first, 1: the second, -1: no difference could be shown."""
        if self.low > 1.0:
            return 0
        return 1 if self.high < 1.0 else -1


def compare_pair(first: NDArray[np.float64], second: NDArray[np.float64], budget: float) -> Verdict:
    """The ratio of costs, paired seed by seed, with Student's interval of its logarithm.

    A miss counts as twice the budget, or where that is infinite, as twice the largest cost; two
    misses of a seed are a tie.  (The bootstrap over ten
    seeds or fewer gives intervals that are too narrow: of 95 % intervals, 90 % cover with ten
    seeds and 74 % with three.  One seed alone can show nothing.)
    """
    if math.isinf(budget):
        costs = np.append(first, second)
        budget = float(costs[np.isfinite(costs)].max(initial=0.0)) or 1.0
    cap = MISSED * budget
    tiny = 1e-12 * budget
    logs = np.log(np.clip(second, tiny, cap)) - np.log(np.clip(first, tiny, cap))
    if logs.size < 2:
        return Verdict(float(np.exp(logs.mean())), 0.0, math.inf)
    error = logs.std(ddof=1) / math.sqrt(logs.size)
    half = error * float(stats.t.ppf((1 + CONFIDENCE) / 2, logs.size - 1))
    middle = logs.mean()
    return Verdict(*(float(np.exp(value)) for value in (middle, middle - half, middle + half)))
