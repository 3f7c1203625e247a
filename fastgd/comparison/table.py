"""The table of a comparison for the terminal."""

from __future__ import annotations

import math

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from fastgd.comparison.result import Comparison

# More problems than these do not fit side by side.
MOST_PROBLEMS = 4


def costs_table(comparison: Comparison, axis: str) -> Table:
    """Median cost of each solver on each problem, to the second of the three targets."""
    target = comparison.targets[1]
    costs = comparison.median_costs(target, axis)
    table = Table(
        title=f"{axis} until a share of {target:g} is left", title_justify="left", box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )  # fmt: skip
    table.add_column("solver", overflow="fold")
    for problem in comparison.problems:
        table.add_column(Text(problem), justify="right", overflow="fold")
    for solver in comparison.solvers:
        numbers = (f"{cost:.3g}" if math.isfinite(cost) else "—" for cost in costs[solver])
        table.add_row(Text(solver), *numbers)
    return table


def results_table(comparison: Comparison) -> Table:
    """One row a solver, the best by the area under its performance profile first."""
    # Narrow enough for a terminal of 80 columns: a number must never be cut.
    title = f"counted in passes; solved: of {len(comparison.problems)} problems, to a share left"
    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("solver", overflow="fold")
    for name in (
        "area", *(f"{target:g}" for target in comparison.targets),
        "di-\nver-\nged", "time\nout", "fail", "sec-\nonds", "com-\npile",
    ):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    for row in comparison.table("passes"):
        table.add_row(
            Text(row["solver"]), f"{row['area']:.2f}", *(str(n) for n in row["solved"].values()),
            *(str(row[what] or "") for what in ("diverged", "timed out", "failed")),
            f"{row['seconds']:.2f}", f"{row['compile']:.2f}",
        )  # fmt: skip
    return table
