"""A comparison: all its runs, what they are measured by, and what is drawn from them."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastgd._files import write_whole
from fastgd.comparison.reference import Reference
from fastgd.comparison.runs import Run
from fastgd.comparison.statistics import (
    Profile,
    Verdict,
    band,
    compare_pair,
    data_profile,
    first_cost,
    median_cost,
    performance_profile,
    values_at,
)
from fastgd.comparison.tuning import FIRST_TUNING_SEED, Trial, Tuned
from fastgd.comparison.watch import Budget, CostRatios

FORMAT, READABLE = 2, (1, 2)
# Shares of the way from f₀ to f_L that may be left.
TARGETS = (1e-1, 1e-3, 1e-5)
LEARNING_TARGETS = (1e-1, 3e-2, 1e-2)
AXES = ("passes", "seconds")
MODES, TRACKS = ("optimisation", "learning"), ("default", "tuned")
# Fields of a run that may say "inf" and mean it.
TEXTS = {"solver", "problem", "status", "stop_reason"}


@dataclass
class Comparison:
    """The result of ``fastgd.compare``.

    Attributes
    ----------
    solvers, problems : list of str
    seeds : int
        Number of final seeds, 0, 1, …
    mode : {"optimisation", "learning"}
    track : {"default", "tuned"}
    budget : Budget
    runs : list of Run
        Tidy records, one for each solver, problem and seed that is finished.
    references : dict
        For each problem, one ``Reference`` a seed.
    ratios : dict of str to CostRatios
    declared : dict
        For each solver, its order, method, batches, learning rate and search space.
    tuning : list of Tuned
    sensitivity : list of Run
        Runs at other learning rates.
    provenance : dict
        Versions, processor, BLAS, threads.
    n_trials, random_state : int
        Of the tuning.
    descriptions : dict of str to str
        For each problem, what it is.
    """

    solvers: list[str]
    problems: list[str]
    seeds: int
    mode: str
    track: str
    budget: Budget
    runs: list[Run]
    references: dict[str, list[Reference]]
    ratios: dict[str, CostRatios]
    declared: dict[str, dict[str, Any]]
    tuning: list[Tuned] = field(default_factory=list)
    sensitivity: list[Run] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    n_trials: int = 0
    random_state: int = 0
    descriptions: dict[str, str] = field(default_factory=dict)

    # Runs and curves.

    @property
    def n_missing(self) -> int:
        """Number of runs that are not finished, of all that it is to have."""
        return len(self.solvers) * len(self.problems) * self.seeds - len(self.runs)

    def holds(self, other: Comparison) -> bool:
        """Whether nothing of another comparison would be lost if this one took its place."""
        same = ("mode", "track", "budget", "n_trials", "random_state")
        if any(getattr(self, name) != getattr(other, name) for name in same):
            return False
        if any(self.declared.get(name) != of for name, of in other.declared.items()):
            return False

        def keys(comparison: Comparison) -> set[Any]:
            at_rates = {
                (*run.key, run.settings.get("learning_rate")) for run in comparison.sensitivity
            }
            tuned = {(tuned.problem, tuned.solver) for tuned in comparison.tuning}
            return {run.key for run in comparison.runs} | at_rates | tuned

        return keys(self) >= keys(other)

    @property
    def targets(self) -> tuple[float, ...]:
        """Shares of the way that may be left, from the easiest target to the hardest."""
        return TARGETS if self.mode == "optimisation" else LEARNING_TARGETS

    def runs_of(self, problem: str, solver: str) -> list[Run]:
        """Finished runs in the order of their seeds."""
        found = [run for run in self.runs if (run.problem, run.solver) == (problem, solver)]
        return sorted(found, key=lambda run: run.seed)

    def gaps(self, run: Run) -> list[float]:
        """Share of the way to the reference that is left at each point of a run's curve."""
        reference = self.references[run.problem][run.seed]
        curve = run.objective if self.mode == "optimisation" else run.validation
        return [reference.gap(value, self.mode) for value in curve]

    def curve(
        self, problem: str, solver: str, axis: str = "passes", n_points: int = 60
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Median and 20–80 % band of the gap over a common grid of costs.

        Returns
        -------
        grid : ndarray of shape (G,)
        band : ndarray of shape (3, G)
            20th percentile, median, 80th.
        """
        runs = self.runs_of(problem, solver)
        grid = self.grid(problem, axis, n_points)
        if not runs:
            return grid, np.full((3, grid.size), np.nan)
        curves = [values_at(*self._within_budget(run, axis), grid) for run in runs]
        return grid, band(np.array(curves))

    def grid(self, problem: str, axis: str, n_points: int = 60) -> NDArray[np.float64]:
        """Costs at which the solvers are shown, the same for all of them."""
        ends = [getattr(run, axis)[-1] for run in self.runs if run.problem == problem]
        firsts = [
            getattr(run, axis)[1] for run in self.runs
            if run.problem == problem and len(run.passes) > 1
        ]  # fmt: skip
        high = min(max(ends, default=1.0), getattr(self.budget, axis))
        low = max(min(firsts, default=high / 100), high / 1e4, 1e-9)
        return np.append(0.0, np.geomspace(low, max(high, low * 1.001), n_points - 1))

    def lowest_gap(self, run: Run) -> float:
        """Smallest share of the way that was left within the budget, also between the points."""
        _, gaps = self._within_budget(run, "passes")
        end = run.final if self.mode == "optimisation" else run.validation_loss
        return min(*gaps, self.references[run.problem][run.seed].gap(end, self.mode))

    def _within_budget(self, run: Run, axis: str) -> tuple[list[float], list[float]]:
        """Costs and gaps of the points of a curve that are within both budgets."""
        points = zip(run.passes, run.seconds, getattr(run, axis), self.gaps(run), strict=True)
        allowed = [(cost, gap) for *spent, cost, gap in points if self.budget.allows(*spent)]
        return [cost for cost, _ in allowed], [gap for _, gap in allowed]

    # Costs to targets.

    def costs(self, problem: str, solver: str, target: float, axis: str) -> NDArray[np.float64]:
        """Cost of each seed to reach a target; ∞ for a miss, and for what came after the budget."""
        # Tables, profiles and pairs ask for the same ones again and again.
        known = self.__dict__.setdefault("_costs", {})
        key = problem, solver, target, axis, len(self.runs)
        if key not in known:
            known[key] = np.array([
                first_cost(*self._within_budget(run, axis), target)
                for run in self.runs_of(problem, solver)
            ])  # fmt: skip
        return known[key]

    def median_costs(
        self, target: float, axis: str = "passes", solvers: list[str] | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """Median cost over seeds of each solver on each problem, in the order of ``problems``."""
        return {
            solver: np.array([
                median_cost(self.costs(problem, solver, target, axis).tolist())
                for problem in self.problems
            ])
            for solver in (solvers or self.solvers)
        }  # fmt: skip

    def _instances(self, axis: str, solvers: list[str] | None) -> dict[str, NDArray[np.float64]]:
        of_targets = [self.median_costs(target, axis, solvers) for target in self.targets]
        return {
            solver: np.concatenate([costs[solver] for costs in of_targets])
            for solver in (solvers or self.solvers)
        }

    def profile(self, axis: str = "passes", solvers: list[str] | None = None) -> Profile:
        """Performance profile over all problems and targets; of some solvers alone if named."""
        return performance_profile(self._instances(axis, solvers))

    def data_profile(self, axis: str = "passes") -> Profile:
        """Data profile over all problems and targets."""
        return data_profile(self._instances(axis, None))

    def common_seeds(self, problem: str, first: str, second: str) -> list[int]:
        """Seeds with a finished run of both solvers."""
        seeds = [{run.seed for run in self.runs_of(problem, name)} for name in (first, second)]
        return sorted(seeds[0] & seeds[1])

    def verdict(
        self, problem: str, first: str, second: str, axis: str = "passes"
    ) -> Verdict | None:
        """Which of two solvers is cheaper; at the hardest target that one of them reaches.

        None if neither reaches any, or there is no seed with both.

        Raises
        ------
        ValueError
            There is no such problem, solver or axis.
        """
        for name, value, allowed in (
            ("problem", problem, self.problems), ("first", first, self.solvers),
            ("second", second, self.solvers), ("axis", axis, AXES),
        ):  # fmt: skip
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}.")
        common = self.common_seeds(problem, first, second)
        if not common:
            return None
        for target in reversed(self.targets):
            pair = []
            for solver in (first, second):
                seeds = [run.seed for run in self.runs_of(problem, solver)]
                costs = self.costs(problem, solver, target, axis)
                pair.append(costs[np.isin(seeds, common)])
            if any(np.isfinite(costs).any() for costs in pair):
                budget = getattr(self.budget, axis)
                return compare_pair(pair[0], pair[1], budget)
        return None

    def table(self, axis: str = "passes") -> list[dict[str, Any]]:
        """One record a solver, the best first by the area under its profile.

        ``solved`` counts, for each target, the problems on which the median seed reached it;
        ``area`` is that under the performance profile up to 4; ``diverged``, ``timed out`` and
        ``failed`` count runs.
        """
        area = self.profile(axis).area
        of_targets = {target: self.median_costs(target, axis) for target in self.targets}
        rows = []
        for solver in self.solvers:
            runs = [run for run in self.runs if run.solver == solver]
            row: dict[str, Any] = {"solver": solver, "area": area[solver]}
            row["solved"] = {
                target: int(np.isfinite(costs[solver]).sum())
                for target, costs in of_targets.items()
            }
            for status in ("diverged", "timed out", "failed"):
                row[status] = sum(run.status == status for run in runs)
            row["seconds"] = float(sum(run.seconds[-1] for run in runs))
            row["compile"] = max((run.compile_seconds for run in runs), default=0.0)
            rows.append(row)
        return sorted(rows, key=lambda row: -row["area"])

    def check(self) -> None:
        """Complain of what would make the comparison unfair.

        Raises
        ------
        ValueError
            A run used a seed of the tuning, solvers were tuned with unequal trials or seconds, the
            costs of a run do not grow from 0, or parts do not belong together.
        """
        if not self.solvers or not self.problems:
            raise ValueError("There is no solver, or no problem.")
        for name, value, allowed in (("mode", self.mode, MODES), ("track", self.track, TRACKS)):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {value!r}.")
        if not isinstance(self.seeds, int):
            raise ValueError(f"seeds must be a whole number, got {self.seeds!r}.")
        if not set(self.solvers) <= set(self.declared):
            raise ValueError(f"Of the solvers {self.solvers} not all are declared.")
        self._check_runs()
        self._check_tuning()

    def _check_runs(self) -> None:
        if len({run.key for run in self.runs}) < len(self.runs):
            raise ValueError("A solver has two runs on the same problem and seed.")
        for run in self.runs:
            self.check_run(run)

    def check_run(self, run: Run) -> None:
        """Complain of a run that has no part in this comparison."""
        if run.solver not in self.declared or run.problem not in self.problems:
            raise ValueError(f"{run.key}: the solver or the problem is not declared.")
        if self.track == "default" and run.settings:
            raise ValueError(f"{run.key}: other settings than declared, {run.settings}.")
        if run.seed >= FIRST_TUNING_SEED:
            raise ValueError(f"{run.key}: the seed belongs to the tuning.")
        if run.seed >= len(self.references.get(run.problem, ())):
            raise ValueError(f"{run.key}: there is no reference for this seed.")
        for axis in AXES:
            costs = getattr(run, axis)
            if not costs or costs[0] != 0 or any(b < a for a, b in itertools.pairwise(costs)):
                raise ValueError(f"{run.key}: {axis} must grow from 0, got {costs[:3]}…")
        if len({len(curve) for curve in run.curves}) > 1:
            raise ValueError(f"{run.key}: the curves are of unequal length.")
        reference = self.references[run.problem][run.seed]
        if not reference.begins_at(run.initial, run.validation[0], self.mode):
            raise ValueError(
                f"{run.key}: it begins at the objective {run.initial!r}, but its reference at"
                f" {reference.initial!r}: the same point must have the same value."
            )

    def _check_tuning(self) -> None:
        for problem in {tuned.problem for tuned in self.tuning}:
            tuned = [t for t in self.tuning if t.problem == problem and t.trials]
            if len({t.allowed_seconds for t in tuned}) > 1:
                raise ValueError(f"{problem}: the solvers were tuned with unequal seconds.")
            if len({len(t.trials) for t in tuned if t.seconds < t.allowed_seconds}) > 1:
                raise ValueError(
                    f"{problem}: the solvers were tuned with unequal numbers of trials."
                )
            if any(trial.seed < FIRST_TUNING_SEED for t in tuned for trial in t.trials):
                raise ValueError(f"{problem}: a solver was tuned on the final seeds.")

    # Files and pictures.

    def to_json(self, path: str | Path) -> None:
        """Write everything, raw curves included, to one file."""
        record = {"format": FORMAT, **_plain(dataclasses.asdict(self))}
        write_whole(path, json.dumps(record).encode())

    @classmethod
    def from_json(cls, path: str | Path) -> Comparison:
        """Read a file of ``to_json``.

        Raises
        ------
        ValueError
            It is not such a file, of a later version, or what it holds is not a fair comparison.
        """
        try:
            record = json.loads(Path(path).read_text("utf-8"))
            number = record.pop("format")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"{path} is not a comparison written by fastgd.") from error
        if number not in READABLE:
            raise ValueError(
                f"{path} has the format {number!r}, but this version reads {READABLE}."
            )
        try:
            comparison = cls(**_revived(record))
            comparison.check()
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged or no fair comparison: {error!r}.") from error
        return comparison

    def to_html(self, path: str | Path) -> None:
        """Write the page: one file that needs no network."""
        from fastgd.comparison.page import page

        write_whole(path, page(self).encode())

    def summary(self) -> list[str]:
        """What came out, in plain sentences."""
        from fastgd.comparison.summary import summary

        return summary(self)

    def plot(self, problem: str | None = None, axis: str = "passes", ax: Any = None) -> Any:
        """Draw the curves of a problem with Matplotlib.

        Parameters
        ----------
        problem : str, default=None
            None: the first one.
        axis : {"passes", "seconds"}
        ax : matplotlib Axes, default=None

        Returns
        -------
        display : ComparisonDisplay
            With ``ax_``, ``figure_`` and ``lines_``, in the style of scikit-learn's displays.
        """
        from fastgd.comparison.display import ComparisonDisplay

        return ComparisonDisplay.from_comparison(self, problem, axis=axis, ax=ax)


def _plain(value: Any) -> Any:
    """What JSON knows: neither NaN nor infinity."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, (float, np.floating)):
        if not math.isfinite(value):
            return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
        return float(value)
    return value.item() if isinstance(value, np.generic) else value


def _revived(record: dict[str, Any]) -> dict[str, Any]:
    return record | {
        "budget": Budget(**_all_numbers(record["budget"])),
        "runs": [_run(run) for run in record["runs"]],
        "sensitivity": [_run(run) for run in record["sensitivity"]],
        "references": {
            name: [Reference(**_all_numbers(one)) for one in seeds]
            for name, seeds in record["references"].items()
        },
        "ratios": {name: CostRatios(**_all_numbers(one)) for name, one in record["ratios"].items()},
        "declared": {name: dict(**one) for name, one in record["declared"].items()},
        "provenance": dict(**record["provenance"]),
        "tuning": [
            Tuned(**(_numbers(t) | {"trials": [Trial(**_numbers(one)) for one in t["trials"]]}))
            for t in record["tuning"]
        ],
    }


def _run(record: dict[str, Any]) -> Run:
    values = _numbers(record)
    for name, kind in Run.__annotations__.items():
        value = values.get(name, 0.0)
        numbers = {"float": [value], "int": [value], "list[float]": value}.get(kind, [])
        if not isinstance(numbers, list) or not all(isinstance(one, Real) for one in numbers):
            raise TypeError(f"{name} must be {kind}, got {value!r}")
    return Run(**values)


def _all_numbers(record: dict[str, Any]) -> dict[str, Any]:
    values = _numbers(record)
    for name, value in values.items():
        if not isinstance(value, Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
    return values


def _numbers(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its "nan" and "inf" as numbers again; text is left where text belongs."""

    def revive(value: Any) -> Any:
        if isinstance(value, list):
            return [revive(one) for one in value]
        return float(value) if value in ("nan", "inf", "-inf") else value

    return {name: value if name in TEXTS else revive(value) for name, value in record.items()}
