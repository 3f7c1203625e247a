"""The curves of a comparison by Matplotlib, in the style of scikit-learn's displays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgd.comparison.result import Comparison


class ComparisonDisplay:
    """Median and 20–80 % band of what each solver has left, over its cost.

    Made by ``Comparison.plot``.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        The medians, in the order of the solvers.
    """

    def __init__(self, comparison: Comparison, problem: str, axis: str) -> None:
        self.comparison, self.problem, self.axis = comparison, problem, axis

    @classmethod
    def from_comparison(
        cls, comparison: Comparison, problem: str | None = None, *, axis: str = "passes",
        ax: Any = None,
    ) -> ComparisonDisplay:  # fmt: skip
        """Draw a problem of a comparison.

        Raises
        ------
        ValueError
            There is no such problem or axis.
        """
        problem = comparison.problems[0] if problem is None else problem
        if problem not in comparison.problems:
            raise ValueError(f"problem must be one of {comparison.problems}, got {problem!r}.")
        from fastgd.comparison.result import AXES

        if axis not in AXES:
            raise ValueError(f"axis must be one of {AXES}, got {axis!r}.")
        return cls(comparison, problem, axis).plot(ax)

    def plot(self, ax: Any = None) -> ComparisonDisplay:
        """Draw into axes, new ones if none are given."""
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots()
        self.ax_, self.figure_, self.lines_ = ax, ax.figure, []
        for solver in self.comparison.solvers:
            grid, (low, middle, high) = self.comparison.curve(self.problem, solver, self.axis)
            (line,) = ax.plot(grid, middle, label=solver)
            ax.fill_between(grid, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
            self.lines_.append(line)
        ax.set(yscale="log", xlabel=self.axis, ylabel="share of the way left", title=self.problem)
        ax.legend()
        return self
