"""The table of a comparison for the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from fastgd.comparison.result import Comparison


def results_table(comparison: Comparison, axis: str = "passes") -> Table:
    """One row a solver, the best by the area under its performance profile first."""
    # Narrow enough for a terminal of 80 columns: a number must never be cut.
    title = f"counted in {axis}; solved: of {len(comparison.problems)} problems, to a share left"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("solver", no_wrap=True)
    for name in (
        "area", *(f"{target:g}" for target in comparison.targets),
        "diverged", "timed\nout", "failed", "seconds", "compile",
    ):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    for row in comparison.table(axis):
        table.add_row(
            row["solver"], f"{row['area']:.2f}", *(str(n) for n in row["solved"].values()),
            *(str(row[what] or "") for what in ("diverged", "timed out", "failed")),
            f"{row['seconds']:.2f}", f"{row['compile']:.2f}",
        )  # fmt: skip
    return table
