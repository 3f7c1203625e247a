"""The measurements of a study as a table for the terminal."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from fastgd.studies.study import Study


def study_table(study: Study) -> Table:
    """One row a measurement."""
    table = Table(title=study.question, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(study.columns):
        if i == 0:
            table.add_column(column)
            continue
        # A number must not be cut; words may come below each other.
        width = max(len(_text(row[i])) for row in study.rows)
        table.add_column(column, justify="right", min_width=width)
    for row in study.rows:
        table.add_row(*map(_text, row))
    return table


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
