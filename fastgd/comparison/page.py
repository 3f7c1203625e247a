"""The page of a comparison: one HTML file with everything in it, drawn by Plotly.

All figures are computed here, from the comparison alone; the script of the page only shows them.
"""

from __future__ import annotations

import html
import json
import math
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from fastgd.comparison.result import AXES
from fastgd.comparison.statistics import median_cost

if TYPE_CHECKING:
    from fastgd.comparison.result import Comparison

# Below this a gap is drawn as zero would be on a log scale.
SMALLEST_GAP = 1e-9


def page(comparison: Comparison) -> str:
    """The page as text."""
    import plotly.offline

    assets = files("fastgd.comparison") / "assets"
    parts = {
        "style": (assets / "page.css").read_text("utf-8"),
        "plotly": plotly.offline.get_plotlyjs(),
        # A tag within a name must not end the script that the data stand in, nor begin another.
        "data": json.dumps(page_data(comparison)).replace("<", "\\u003c"),
        "script": (assets / "page.js").read_text("utf-8"),
        "summary": "\n".join(f"<li>{html.escape(s)}</li>" for s in comparison.summary()),
    }
    text = (assets / "page.html").read_text("utf-8")
    head, *rest = text.split("{{")
    pieces = [head]
    for piece in rest:
        name, _, tail = piece.partition("}}")
        pieces += [parts[name.strip()], tail]
    return "".join(pieces)


def page_data(comparison: Comparison) -> dict[str, Any]:
    """What the script of the page shows."""
    return {
        "solvers": comparison.solvers,
        "problems": comparison.problems,
        "targets": [f"{target:g}" for target in comparison.targets],
        "curves": {
            problem: {axis: _curves(comparison, problem, axis) for axis in AXES}
            for problem in comparison.problems
        },
        "costs": {
            axis: {
                f"{target:g}": {
                    solver: [_number(cost) for cost in costs]
                    for solver, costs in comparison.median_costs(target, axis).items()
                }
                for target in comparison.targets
            }
            for axis in AXES
        },
        "tables": {axis: _table(comparison, axis) for axis in AXES},
        "profiles": {axis: _profile(comparison.profile(axis)) for axis in AXES},
        "data_profiles": {axis: _profile(comparison.data_profile(axis)) for axis in AXES},
        "pairs": _pairs(comparison),
        "sensitivity": _sensitivity(comparison),
        "finals": {problem: _finals(comparison, problem) for problem in comparison.problems},
        "tuning": [
            {"solver": t.solver, "problem": t.problem, "settings": _rounded(t.settings),
             "trials": len(t.trials), "seconds": _number(t.seconds), "on_edge": t.on_edge}
            for t in comparison.tuning
        ],
        "ratios": {name: _rounded(r._asdict()) for name, r in comparison.ratios.items()},
        "provenance": {name: str(value) for name, value in comparison.provenance.items()},
    }  # fmt: skip


def _number(value: float) -> float | None:
    """Four digits, which is what a page shows; None for what is not finite."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _rounded(numbers: dict[str, Any]) -> dict[str, float | None]:
    return {name: _number(float(value)) for name, value in numbers.items()}


def _curves(comparison: Comparison, problem: str, axis: str) -> dict[str, Any]:
    curves: dict[str, Any] = {}
    for solver in comparison.solvers:
        _, (low, middle, high) = comparison.curve(problem, solver, axis)
        curves[solver] = [
            [_number(max(value, SMALLEST_GAP)) for value in values]
            for values in (low, middle, high)
        ]
    return {"grid": [_number(x) for x in comparison.grid(problem, axis)], "bands": curves}


def _table(comparison: Comparison, axis: str) -> list[dict[str, Any]]:
    return [
        row | {"area": _number(row["area"]), "seconds": _number(row["seconds"]),
               "compile": _number(row["compile"]),
               "solved": {f"{target:g}": n for target, n in row["solved"].items()}}
        for row in comparison.table(axis)
    ]  # fmt: skip


def _profile(profile: Any) -> dict[str, Any]:
    shares = {name: [_number(s) for s in share] for name, share in profile.shares.items()}
    return {"x": [_number(x) for x in profile.x], "shares": shares}


def _pairs(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Each solver against each on each problem: ratio with its interval, or why there is none.

    By their places in the list of solvers, whose names may hold anything.
    """
    pairs: dict[str, dict[str, Any]] = {}
    for i, first in enumerate(comparison.solvers):
        for k, second in enumerate(comparison.solvers[i + 1 :], i + 1):
            verdicts = [
                _verdict(comparison, problem, first, second) for problem in comparison.problems
            ]
            pairs[f"{i}|{k}"] = {
                "verdicts": verdicts,
                "profile": _profile(comparison.profile("passes", [first, second])),
            }
    return pairs


def _verdict(comparison: Comparison, problem: str, first: str, second: str) -> Any:
    """Ratio, interval and winner; or in words why there are none."""
    if not comparison.common_seeds(problem, first, second):
        return "runs are missing"
    verdict = comparison.verdict(problem, first, second)
    if verdict is None:
        return "neither reached a target"
    return [*map(_number, verdict), verdict.winner]


def _sensitivity(comparison: Comparison) -> dict[str, dict[str, list[Any]]]:
    """Smallest gap of each rule by learning rate, on the first seed."""
    found: dict[str, dict[str, list[Any]]] = {}
    if not comparison.sensitivity:
        return found
    declared = [run for run in comparison.runs if run.seed == 0 and _rate(comparison, run)]
    for run in (*declared, *comparison.sensitivity):
        gap = math.inf if run.status == "diverged" else comparison.lowest_gap(run)
        points = found.setdefault(run.problem, {}).setdefault(run.solver, [])
        points.append([_number(_rate(comparison, run)), _number(max(gap, SMALLEST_GAP))])
    for of_problem in found.values():
        for points in of_problem.values():
            points.sort(key=lambda point: point[0])
    return found


def _rate(comparison: Comparison, run: Any) -> float:
    """Learning rate of a run; 0 of a solver that has none."""
    if "learning_rate" in run.settings:
        return float(run.settings["learning_rate"])
    return float(comparison.declared[run.solver].get("learning_rate") or 0.0)


def _finals(comparison: Comparison, problem: str) -> list[dict[str, Any]]:
    """What each solver ended with on a problem: medians over seeds."""
    rows = []
    for solver in comparison.solvers:
        runs = comparison.runs_of(problem, solver)
        if not runs:
            continue
        rows.append({
            "solver": solver,
            "gap": _number(median_cost([comparison.lowest_gap(run) for run in runs])),
            **{name: _number(float(np.median([getattr(run, name) for run in runs])))
               for name in ("final", "validation_loss", "validation_score", "test_loss",
                            "test_score", "steps")},
            "seconds": _number(float(np.median([run.seconds[-1] for run in runs]))),
            "ends": sorted({f"{run.status}: {run.stop_reason}" for run in runs}),
        })  # fmt: skip
    return rows
