"""What runs are measured by: the lowest objective known, and what evaluations cost.

Both come from runs of their own, before the comparison, and are frozen with it.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from fastgd.comparison.problems import FunctionProblem, Problem
from fastgd.comparison.watch import CostRatios
from fastgd.optimizers import Adam

# Iterations of the reference runs: several times what a budget pays for.
LONG = 1_000
# Epochs of the run that freezes the validation target.
LONG_LEARNING = 300
REPEATS = 7
# L-BFGS-B's status where it finds nothing lower along its direction.
ABNORMAL = 2
# Relative difference of two initial objectives that are the same but for rounding.
SAME_START = 1e-6


class Reference(NamedTuple):
    """Of one problem at one seed.

    Attributes
    ----------
    initial : float
        The training objective at the initial parameters, f₀.
    lowest : float
        The lowest that a long independent run reached, f_L, or the known minimum.
    initial_validation, lowest_validation : float
        The same of the validation loss.
    """

    initial: float
    lowest: float
    initial_validation: float
    lowest_validation: float

    def begins_at(self, initial: float, validation: float, mode: str) -> bool:
        """Whether that is where runs begin, up to rounding; another CPU may add otherwise."""
        pairs = [(initial, self.initial)]
        if mode == "learning":
            pairs.append((validation, self.initial_validation))
        return all(
            math.isclose(a, b, rel_tol=SAME_START) or (math.isnan(a) and math.isnan(b))
            for a, b in pairs
        )

    def gap(self, value: float, mode: str) -> float:
        """Which share of the way from f₀ to f_L is left, in [0, ∞)."""
        first, last = (
            (self.initial, self.lowest)
            if mode == "optimisation"
            else (self.initial_validation, self.lowest_validation)
        )
        # Without both ends of the way nobody can tell where on it a value lies.
        if not all(map(math.isfinite, (value, first, last))):
            return math.inf
        if first > last:
            return max(value - last, 0.0) / (first - last)
        return 0.0 if value <= last else math.inf


def n_reached(
    reference: Reference, targets: tuple[float, ...], mode: str, value: float, validation: float
) -> int:
    """How many targets an objective, or in learning a validation loss, reaches."""
    gap = reference.gap(value if mode == "optimisation" else validation, mode)
    return sum(gap <= target for target in targets)


def reference(problem: Problem, seed: int, mode: str) -> Reference:
    """Minimise a problem for long by L-BFGS, which no solver of a comparison can influence.

    In learning, the validation target is the lowest validation loss along that run and along a
    long run of Adam with the whole data in each step.
    """
    instance = problem.at(seed)
    objective = instance.objective
    values = [objective.fun(objective.x0)]
    held_out = [instance.validation(objective.x0).loss]
    learning = mode == "learning"

    def look(intermediate_result: Any) -> None:
        held_out.append(instance.validation(intermediate_result.x).loss)

    def value_and_gradient(x: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        value, gradient = objective.fun_and_grad(x)
        values.append(value)
        return value, gradient

    found_no_way = True
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        # A function may be defined only here and there; what was reached until it complains counts.
        with contextlib.suppress(Exception):
            result = scipy.optimize.minimize(
                value_and_gradient, objective.x0, jac=True, method="L-BFGS-B",
                callback=look if learning else None,
                options={
                    "maxiter": LONG, "maxfun": 2 * LONG, "gtol": 1e-10, "ftol": 0.0, "maxcor": 30
                },
            )  # fmt: skip
            # Where it begins at a minimum, it ends there without a search along a line.
            found_no_way = result.status == ABNORMAL
        if learning:
            scipy.optimize.minimize(
                objective.fun_and_grad, objective.x0, jac=True, method=Adam(learning_rate=0.01),
                callback=look, tol=0.0, options={"maxiter": LONG_LEARNING},
            )  # fmt: skip
    lowest = _lowest(values)
    if isinstance(problem, FunctionProblem) and problem.minimum is not None:
        lowest = float(problem.minimum)
    elif found_no_way and not lowest < values[0]:
        lowest = math.nan  # that nothing lower was found says nothing
    return Reference(float(values[0]), lowest, held_out[0], _lowest(held_out))


def _lowest(values: list[float]) -> float:
    """The lowest finite number; NaN if there is none."""
    return float(min(filter(math.isfinite, values), default=math.nan))


def cost_ratios(problem: Problem, seed: int = 0, *, normal_equations: bool = True) -> CostRatios:
    """Measure what evaluations of a problem cost, in values with gradients.

    Normal equations are n² numbers, so they are left out, as NaN, where nobody asks for them.
    """
    objective: Any = problem.at(seed).objective
    if isinstance(problem, FunctionProblem):
        return CostRatios(0.5, 1.0, math.nan)
    # What is remembered would cost nothing: a gradient is, and a value where one was.
    w, other, another = (objective.x0 + step for step in (0.0, 1e-3, 2e-3))
    v = np.ones_like(w)

    def gradients() -> None:
        objective.grad(w)
        objective.grad(other)

    unit = _seconds(gradients) / 2
    points = itertools.cycle([w, other])
    fun = _seconds(lambda: objective.fun(another)) / unit
    hessp = _seconds_or_nan(lambda: objective.hessp(w, v)) / unit
    normal = math.nan
    if normal_equations:
        normal = _seconds_or_nan(lambda: objective.normal_equations(next(points))) / unit
    # The value and the gradient that come with normal equations are counted by themselves.
    ratios = fun, hessp, np.maximum(normal - 1.0, 0.0)
    # Two digits: what is reported must not pretend to more than a timing can say.
    return CostRatios(*(float(f"{ratio:.2g}") for ratio in ratios))


def _seconds_or_nan(call: Callable[[], Any]) -> float:
    """NaN for what this problem, or this computer, has not."""
    try:
        return _seconds(call)
    except (ValueError, MemoryError):
        return math.nan


def _seconds(call: Callable[[], Any]) -> float:
    call()
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))
