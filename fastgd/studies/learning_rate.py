"""Gradient descent on a convex problem, below and above the edge 2 / λ_max of its learning rate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastgd.neural_network import MLPRegressor
from fastgd.optimizers import SGD, Optimizer
from fastgd.studies.study import Study, diabetes

STEPS = 1_000
SHARES_OF_EDGE = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 1.01, 1.1, 1.5)


def largest_eigenvalue(objective: Any, w: NDArray[Any], n_steps: int = 200) -> float:
    """λ_max of the Hessian at ``w`` by power iteration on Hessian–vector products."""
    v = np.random.default_rng(0).normal(size=w.size)
    for _ in range(n_steps):
        v /= np.linalg.norm(v)
        v = objective.hessp(w, v)
    return float(np.linalg.norm(v))


def learning_rate() -> Study:
    """Linear regression, whose Hessian is the same everywhere, by gradient descent."""
    X, _, y, _ = diabetes()
    net = MLPRegressor(hidden_layer_sizes=(), alpha=1.0, random_state=0)
    f = net.objective(X, y)
    edge = 2.0 / largest_eigenvalue(f, f.x0)
    # The minimum by one Newton step, which is exact here.
    lowest = f.fun(f.x0 - np.linalg.solve(f.hess(f.x0), f.grad(f.x0)))
    curves = {share: _descend(f, share * edge, lowest) for share in SHARES_OF_EDGE}
    rows = []
    for share, curve in curves.items():
        left = curve[-1] / curve[0]
        state = "diverges" if left > 1 else "converged" if left < 1e-6 else "on its way"
        rows.append((share, share * edge, float(left), state))
    below = [row for row in rows if row[0] < 1]
    above = [row for row in rows if row[0] > 1]
    best = min(rows, key=lambda row: row[2])
    slowest = rows[0]
    conclusion = (
        f"The edge 2/λ_max lies at {edge:.4g}: {sum(r[3] == 'diverges' for r in above)} of"
        f" {len(above)} rates above it diverged and"
        f" {sum(r[3] == 'diverges' for r in below)} of {len(below)} below it; after {STEPS} steps"
        f" the smallest rate has {slowest[2]:.0%} of the way left, the best one,"
        f" {best[0]:g} times the edge, {best[2]:.1e}."
    )

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for share, curve in curves.items():
            ax.plot(np.clip(curve / curve[0], 1e-12, 1e6), label=f"{share:g} × 2/λ_max")
        ax.set(yscale="log", xlabel="steps", ylabel="share of the way left", ylim=(1e-12, 1e6))
        figure.legend(loc="outside right upper")

    columns = ("rate / edge", "learning rate", "share of the way left", "state")
    return Study("What does the learning rate do?", columns, rows, conclusion, draw)


def _descend(f: Any, rate: float, lowest: float) -> NDArray[np.float64]:
    """What is left above the minimum before each step."""
    w = f.x0.copy()
    optimizer = Optimizer(SGD(learning_rate=rate), w)
    left = []
    for _ in range(STEPS):
        value, gradient = f.fun_and_grad(w)
        left.append(max(value - lowest, 0.0))
        optimizer.update(w, gradient)
    return np.array(left)
