"""Pictures of surfaces with paths on them, by Matplotlib: still, or with the paths growing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastgd.comparison.landscape import Surface

N_LEVELS = 30


def draw(surface: Surface, ax: Any = None, upto: int | None = None) -> Any:
    """Draw a surface with its paths by Matplotlib; of each path the first ``upto`` points.

    Returns
    -------
    ax : matplotlib Axes
    """
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots()
    height = np.maximum(surface.values - surface.lowest, 0)
    positive = height[height > 0]
    levels = np.geomspace(max(positive.min(), 1e-6 * positive.max()), positive.max(), N_LEVELS)
    ax.contourf(
        surface.a, surface.b, np.clip(height, levels[0], levels[-1]), levels,
        norm=_log_norm(levels), cmap="Greys", alpha=0.5,
    )  # fmt: skip
    for name, points in surface.paths.items():
        shown = points[: upto or len(points)]
        (line,) = ax.plot(*shown.T, marker=".", markersize=3, linewidth=1.3, label=name)
        ax.plot(*shown[-1], marker="o", color=line.get_color(), markeredgecolor="white")
    ax.plot(*next(iter(surface.paths.values()))[0], marker="*", color="black", markersize=11)
    ax.set(
        xlim=surface.a[[0, -1]], ylim=surface.b[[0, -1]], title=surface.name,
        xlabel=surface.labels[0], ylabel=surface.labels[1],
    )  # fmt: skip
    return ax


def _log_norm(levels: NDArray[np.float64]) -> Any:
    from matplotlib.colors import LogNorm

    return LogNorm(levels[0], levels[-1])


def picture(surfaces: list[Surface], upto: int | None = None) -> Any:
    """A figure with a panel for each surface and one legend."""
    import matplotlib.pyplot as plt

    columns = min(len(surfaces), 3)
    rows = -(-len(surfaces) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(5 * columns + 1.5, 4.4 * rows), squeeze=False, layout="constrained"
    )
    for ax, surface in zip(axes.flat, surfaces, strict=False):
        draw(surface, ax, upto)
    for ax in axes.flat[len(surfaces) :]:
        ax.set_axis_off()
    handles, names = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper")
    return figure


def save(surfaces: list[Surface], file: Any) -> None:
    """Write a picture, PNG, SVG or PDF by the name of the file; a GIF shows the paths growing."""
    import matplotlib.pyplot as plt

    file = str(file)
    if not file.lower().endswith(".gif"):
        figure = picture(surfaces)
        figure.savefig(file, dpi=130)
        plt.close(figure)
        return
    from matplotlib.animation import FuncAnimation, PillowWriter

    figure = picture(surfaces)
    axes = figure.axes[: len(surfaces)]
    longest = max(len(points) for surface in surfaces for points in surface.paths.values())

    def frame(upto: int) -> list[Any]:
        for ax, surface in zip(axes, surfaces, strict=True):
            ax.clear()
            draw(surface, ax, upto)
        return []

    frames = np.unique(np.geomspace(1, longest, 40).astype(int))
    FuncAnimation(figure, frame, frames=frames).save(file, PillowWriter(fps=8), dpi=80)
    plt.close(figure)
