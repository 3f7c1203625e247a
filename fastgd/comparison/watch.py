"""What follows a run: its budget, its clock, its curves, and when it is over."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastgd.comparison.problems import Instance

# An objective so many times the initial one will not come back.
DIVERGED = 1e6
# After one so small beside it, numbers that are not finite come from quotients of such ones.
UNDERFLOW = 1e-100
# A run keeps about this many points of its curves, and those that first reach a target.
MOST_POINTS = 200


class Budget(NamedTuple):
    """When a run ends, whatever comes first.

    Attributes
    ----------
    passes : float
        Over the training data.
    seconds : float
        Of the solver's own time; a run that needs more is counted as a time-out.
    """

    passes: float = 100.0
    seconds: float = 10.0

    def allows(self, passes: float, seconds: float) -> bool:
        """Whether what was reached at this cost counts."""
        return passes <= self.passes and seconds <= self.seconds


class CostRatios(NamedTuple):
    """Cost of an evaluation in passes, that is, relative to a value with its gradient.

    That of normal equations is what they cost besides the value and the gradient.
    """

    fun: float = 0.4
    hessp: float = 2.0
    normal_equations: float = 4.0

    def passes(self, counts: dict[str, int], n_parameters: int) -> float:
        """What the evaluations that an objective has counted cost."""
        charged = (
            (1.0, counts["fun_and_grad"]),
            (self.fun, counts["fun"]),
            (self.hessp, counts.get("hessp", 0) + n_parameters * counts.get("hess", 0)),
            (self.normal_equations, counts.get("normal_equations", 0)),
        )
        # What a problem has not, its ratio being NaN, was not asked for either.
        return sum(ratio * n for ratio, n in charged if n > 0)


NReached = Callable[[float, float], int]


class Watch:
    """Follows a run: stops the clock, evaluates the parameters, and says when it is over.

    Parameters
    ----------
    instance : Instance
    budget : Budget
    mode : {"optimisation", "learning"}
        What counts as the best parameters so far.
    n_reached : callable, default=None
        ``n_reached(objective, validation_loss)`` is the number of targets that they reach.  Then
        each point is looked at, and kept if it is the first to reach one, however long the run.
    """

    def __init__(
        self, instance: Instance, budget: Budget, mode: str, n_reached: NReached | None = None
    ) -> None:
        self._instance, self._budget, self._mode = instance, budget, mode
        self._n_reached, self._most_reached = n_reached, 0
        self._counts = getattr(instance.objective, "counts", {})
        self.passes: list[float] = []
        self.spent: list[float] = []
        self.objective: list[float] = []
        self.validation: list[float] = []
        self._is_first: list[bool] = []  # to reach a target
        self.best: tuple[float, NDArray[Any]] = (math.inf, instance.objective.x0)
        self.lowest = math.inf  # value of the objective
        self.last = self.last_allowed = instance.objective.x0
        self.steps = 0  # updates, or iterations
        self.status, self.reason = "finished", ""
        self._seconds = 0.0
        self._every = 1
        self._n_told = 0
        self._resumed = time.perf_counter()

    @property
    def seconds(self) -> float:
        """What the solver has spent by now."""
        return self._seconds + time.perf_counter() - self._resumed

    def begin(self) -> None:
        """Note the initial parameters, and start the clock."""
        self._note(0.0, self._instance.objective.x0)
        self._resumed = time.perf_counter()

    def tell(self, w: NDArray[Any], passes: float) -> bool:
        """Note where the run is, after so many passes; whether it is to end."""
        self._seconds = self.seconds
        self._n_told += 1
        over = not np.isfinite(w).all() or self._is_over(passes)
        self._note(passes, w, due=self._n_told % self._every == 0 or over)
        if len(self.passes) > 2 * MOST_POINTS + self._most_reached:
            self._thin()
        over = self._has_diverged() or over
        self._resumed = time.perf_counter()
        return over

    def end(self, w: NDArray[Any], passes: float) -> None:
        """Note where a solver ended by itself."""
        self._seconds = self.seconds
        if passes > self.passes[-1] or not np.array_equal(w, self.last):
            self._note(passes, w)
        if not self._has_diverged():
            self._is_over(passes)

    def _note(self, passes: float, w: NDArray[Any], due: bool = True) -> None:
        """Look at a point; keep it if that is due, or if it is the first to reach a target."""
        if not due and self._n_reached is None:
            return
        value, held_out = self._look(passes, w)
        reached = 0 if self._n_reached is None else self._n_reached(value, held_out)
        is_first = reached > self._most_reached
        self._most_reached = max(reached, self._most_reached)
        if due or is_first:
            self.passes.append(passes)
            self.spent.append(self._seconds)
            self.objective.append(value)
            self.validation.append(held_out)
            self._is_first.append(is_first)
            self.last = np.array(w)

    def _look(self, passes: float, w: NDArray[Any]) -> tuple[float, float]:
        """The objective and the validation loss, which may be the best within the budget."""
        counts = dict(self._counts)
        value = self._instance.objective.fun(w)
        self._counts.update(counts)  # looking costs the solver nothing
        held_out = self._instance.validation(w).loss
        if self._budget.allows(passes, self._seconds):
            self.last_allowed = np.array(w)
            # Functions have no validation loss.
            first = self.validation[0] if self.validation else held_out
            learns = self._mode == "learning" and not math.isnan(first)
            judged = held_out if learns else value
            if judged < self.best[0]:
                self.best = judged, self.last_allowed
            self.lowest = min(self.lowest, value) if math.isfinite(value) else self.lowest
        return value, held_out

    def _thin(self) -> None:
        """Keep each second point and the first at each target; keep half as many from now on."""
        self._every *= 2
        end = len(self.passes) - 1
        kept = [i for i in range(end + 1) if i % 2 == 0 or i == end or self._is_first[i]]
        curves: tuple[list[Any], ...] = (
            self.passes, self.spent, self.objective, self.validation, self._is_first,
        )  # fmt: skip
        for curve in curves:
            curve[:] = [curve[i] for i in kept]

    def stop_within_an_iteration(self, passes: float) -> None:
        """Note that a solver was stopped where it had not called back for long."""
        self._seconds = self.seconds
        self._note(passes, self.last)
        self._is_over(passes)
        self.reason += ", within an iteration"

    def _is_over(self, passes: float) -> bool:
        if passes >= self._budget.passes:
            self.reason = f"budget of {self._budget.passes:g} passes"
        elif self._seconds >= self._budget.seconds:
            self.status = "timed out"
            self.reason = f"budget of {self._budget.seconds:g} seconds"
        else:
            return False
        return True

    def _has_diverged(self) -> bool:
        """Whether the last point that was noted is none to go on from."""
        value, first = self.objective[-1], self.objective[0]
        too_large = value - first > DIVERGED * max(abs(first), 1.0)
        is_finite = math.isfinite(value) and np.isfinite(self.last).all()
        if is_finite and not too_large:
            return False
        if not is_finite and abs(self.lowest) < UNDERFLOW * abs(first):
            self.status, self.reason = "finished", "as near to 0 as numbers go"
            return True
        self.status, self.reason = "diverged", "the objective is not finite or grew a millionfold"
        return True


class OverBudgetError(Exception):
    """A solver that calls back too rarely has used up twice its budget."""


class Metered:
    """An objective that stops a solver which goes on without calling back.

    Parameters
    ----------
    objective : Objective or FunctionObjective
    ratios : CostRatios
    watch : Watch
        Knows the seconds.
    budget : Budget
        Of which a solver may spend twice as much within an iteration.
    """

    def __init__(self, objective: Any, ratios: CostRatios, watch: Watch, budget: Budget) -> None:
        self._objective, self._ratios, self._watch = objective, ratios, watch
        self._budget = budget

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objective, name)

    def fun(self, w: NDArray[Any]) -> float:
        self._check()
        return self._objective.fun(w)

    def fun_and_grad(self, w: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        self._check()
        return self._objective.fun_and_grad(w)

    def _check(self) -> None:
        objective = self._objective
        passes = self._ratios.passes(objective.counts, objective.n_parameters)
        if passes >= 2 * self._budget.passes or self._watch.seconds >= 2 * self._budget.seconds:
            raise OverBudgetError
