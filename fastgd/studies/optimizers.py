"""Memory, speed and sensitivity to the learning rate of every update rule."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from fastgd.neural_network import MLPClassifier
from fastgd.neural_network.course import Course
from fastgd.optimizers import OPTIMIZERS, Optimizer
from fastgd.studies.study import Study, digits

RATES = np.geomspace(1e-5, 1e1, 13)
PASSES = 20
GOOD = 0.02  # a rate is good if its accuracy is at most so much below that of the best rate
N_VECTOR = 100_000
N_COLORS = 10  # of Matplotlib's cycle


def optimizers() -> Study:
    """All rules of the table with their defaults but for the learning rate, on digits."""
    X, X_test, y, y_test = digits()
    found: dict[str, list[float]] = {}
    rows: list[tuple[Any, ...]] = []
    for name, rule in OPTIMIZERS.items():
        losses, scores = [], []
        for rate in RATES:
            loss, score = _train(rule(learning_rate=float(rate)), X, y, X_test, y_test)
            losses.append(loss)
            scores.append(score)
        found[name] = losses
        best = int(np.nanargmin(losses))
        good = sum(score >= np.nanmax(scores) - GOOD for score in scores)
        arrays = len(getattr(rule(), "state", ()))
        rows.append((name, arrays, _microseconds(rule()), RATES[best], losses[best], scores[best],
                     good))  # fmt: skip
    rows.sort(key=lambda row: row[4])
    widest = max(rows, key=lambda row: row[6])
    fastest = min(rows, key=lambda row: row[2])
    conclusion = (
        f"At its best rate {rows[0][0]} came lowest in {PASSES} passes (loss {rows[0][4]:.2g});"
        f" {widest[0]} minds its rate least ({widest[6]} of {len(RATES)} rates, a factor"
        f" {10 ** ((widest[6] - 1) / 2):.0f}, within {GOOD:.0%} of its best accuracy); an update"
        f" costs from {fastest[2]:.0f} µs ({fastest[0]}) to {max(r[2] for r in rows):.0f} µs for"
        f" {N_VECTOR:,} parameters, and {min(r[1] for r in rows)} to {max(r[1] for r in rows)}"
        " times their memory."
    )

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for i, (name, losses) in enumerate(found.items()):
            style = ("-", "--")[i // N_COLORS % 2]
            ax.plot(RATES, np.clip(losses, None, 1e2), style, marker=".", label=name)
        ax.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="training loss")
        figure.legend(loc="outside right upper")

    columns = (
        "rule", "state arrays", "µs an update", "best rate", "loss", "test accuracy", "good rates",
    )  # fmt: skip
    return Study("What do the optimizers cost, and how much do they mind?", columns, rows,
                 conclusion, draw)  # fmt: skip


def _train(rule: Any, X: Any, y: Any, X_test: Any, y_test: Any) -> tuple[float, float]:
    net = MLPClassifier((32,), solver=rule, batch_size=32, random_state=0, n_jobs=1)
    f = net.objective(X, y)
    course = Course(net, X, y)
    with np.errstate(all="ignore"):
        for _ in range(PASSES):
            w = course.epoch()
    loss = f.fun(w) if np.isfinite(w).all() else math.inf
    if not math.isfinite(loss):
        return math.inf, math.nan
    return loss, float(net.set_weights(w).score(X_test, y_test))


def _microseconds(rule: Any) -> float:
    w, g = np.zeros(N_VECTOR, np.float32), np.full(N_VECTOR, 0.1, np.float32)
    optimizer = Optimizer(rule, w)
    taken = []
    for _ in range(60):
        started = time.perf_counter()
        optimizer.update(w, g)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken[10:])) * 1e6
