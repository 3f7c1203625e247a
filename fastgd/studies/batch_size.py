"""Speed against accuracy by the size of the batches, at equal passes and at equal seconds."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from fastgd.neural_network import MLPClassifier
from fastgd.neural_network.course import Course
from fastgd.optimizers import SGD
from fastgd.studies.study import Study, digits

SIZES = (1, 4, 16, 64, 256, 1257)
PASSES = 20
SEEDS = 5
RATE = 0.05


def batch_size() -> Study:
    """Gradient descent with one learning rate on handwritten digits."""
    _train(64, 0, 2)  # compiles
    runs = {size: [_train(size, seed, PASSES) for seed in range(SEEDS)] for size in SIZES}
    # Nobody has more seconds than the fastest needs for all its passes.
    equal = min(float(np.median([run[0][-1] for run in of_size])) for of_size in runs.values())
    rows = []
    for size, of_size in runs.items():
        seconds = float(np.median([run[0][-1] for run in of_size]))
        at_passes = float(np.median([run[1][-1] for run in of_size]))
        at_seconds = float(np.median([_at(run, equal) for run in of_size]))
        rows.append((size, seconds / PASSES * 1e3, at_passes, at_seconds))
    by_passes = max(rows, key=lambda row: row[2])
    by_seconds = max(rows, key=lambda row: row[3])
    conclusion = (
        f"At equal passes ({PASSES}) batches of {by_passes[0]} are the most accurate"
        f" ({by_passes[2]:.1%}), at equal seconds ({equal * 1e3:.0f} ms) batches of"
        f" {by_seconds[0]} ({by_seconds[3]:.1%}); a pass in batches of 1 takes"
        f" {rows[0][1] / rows[-1][1]:.1f} times as long as one in a single batch, which reaches"
        f" {rows[-1][2]:.1%}."
    )

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        for size, of_size in runs.items():
            accuracy = np.median([run[1] for run in of_size], axis=0)
            left.plot(np.arange(PASSES + 1), accuracy, label=f"{size}")
            right.plot(np.median([run[0] for run in of_size], axis=0), accuracy)
        left.set(xlabel="passes", ylabel="accuracy on test samples")
        right.set(xlabel="seconds", xscale="log")
        figure.legend(title="batch size", loc="outside right upper")

    columns = (
        "batch size", "ms a pass", f"accuracy after {PASSES} passes",
        f"accuracy after {equal * 1e3:.0f} ms",
    )  # fmt: skip
    return Study("What does the batch size do?", columns, rows, conclusion, draw)


def _train(size: int, seed: int, passes: int) -> tuple[list[float], list[float]]:
    """Seconds so far and test accuracy, before the first pass and after each."""
    X_train, X_test, y_train, y_test = digits(seed)
    net = MLPClassifier(
        (32,), solver=SGD(learning_rate=RATE), batch_size=min(size, len(X_train)),
        random_state=seed, n_jobs=1,
    )  # fmt: skip
    course = Course(net, X_train, y_train)
    seconds, accuracy = [0.0], [float(net.score(X_test, y_test))]
    for _ in range(passes):
        started = time.perf_counter()
        w = course.epoch()
        seconds.append(seconds[-1] + time.perf_counter() - started)
        accuracy.append(float(net.set_weights(w).score(X_test, y_test)))
    return seconds, accuracy


def _at(run: tuple[list[float], list[float]], seconds: float) -> float:
    """Accuracy after the last pass that was finished by then."""
    return run[1][int(np.searchsorted(run[0], seconds, side="right")) - 1]
