"""The results of a comparison as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from fastgd.comparison.runs import Run


def results_table(runs: Sequence[Run], title: str, score_name: str) -> Table:
    """One row a run, in the order given; the best value of a column is bold."""
    # Narrow enough for a terminal of 80 columns: a number must never be cut.
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("solver", no_wrap=True)
    scores = ("train\nloss", f"test\n{score_name}")
    for name in ("order", *scores, "epochs", "passes", "seconds", "compile"):
        table.add_column(name, justify="right", no_wrap=True)
    lowest = min((run.train_loss for run in runs if math.isfinite(run.train_loss)), default=None)
    highest = max((run.test_score for run in runs if math.isfinite(run.test_score)), default=None)
    for run in runs:
        table.add_row(
            run.solver,
            str(run.order),
            _number(run.train_loss, ".3g", run.train_loss == lowest),
            _number(run.test_score, ".4f", run.test_score == highest),
            str(run.n_iter),
            str(run.n_passes),
            _number(run.seconds, ".2f", False),
            f"{run.compile_seconds:.2f}",
        )
    return table


def _number(value: float, form: str, best: bool) -> str:
    if not math.isfinite(value):
        return "diverged"
    return f"[bold]{value:{form}}[/bold]" if best else f"{value:{form}}"
