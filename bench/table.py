"""Markdown tables, printed row by row while the figures come in."""

from __future__ import annotations

from collections.abc import Iterable

from bench.pairing import Seconds, best_peer, ratio


class Table:
    """A table whose columns after the first ``n_text`` are numbers."""

    def __init__(self, columns: Iterable[str], n_text: int = 1) -> None:
        columns = list(columns)
        self.row(*columns)
        self.row(*("---" if i < n_text else "---:" for i in range(len(columns))))

    def row(self, *values: object) -> None:
        print(f"| {' | '.join(map(str, values))} |", flush=True)


def heading(question: str) -> None:
    """Title of a section."""
    print(f"\n### {question}\n", flush=True)


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 1e-3 else f"{value:.2g}"


def spread(low: float, middle: float, high: float) -> str:
    """A median ratio with its range."""
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def versus(seconds: Seconds) -> str:
    """How many times as long as fastgd the best peer takes, with the range, and who it is."""
    if len(seconds) < 2:
        return "—"
    peer = best_peer(seconds)
    return f"{spread(*ratio(seconds, peer))} {peer}"
