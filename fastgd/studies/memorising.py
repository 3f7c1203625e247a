"""Memorising: a network learns random labels by heart, and nothing else."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from fastgd.neural_network import MLPClassifier
from fastgd.studies.study import Study, digits

N_TRAIN = 500
WIDTHS = (4, 16, 64, 256)
EPOCHS = 400


def memorising() -> Study:
    """Digits with their own labels and with labels drawn at random (Zhang et al. 2017)."""
    X, X_test, y, y_test = digits(n_train=N_TRAIN)
    labels = {"true": y, "random": np.random.default_rng(0).integers(0, 10, y.size)}
    rows: list[tuple[Any, ...]] = []
    for kind, of_kind in labels.items():
        for width in WIDTHS:
            net = MLPClassifier(
                (width,), alpha=0.0, max_iter=EPOCHS, learning_rate_init=0.01, random_state=0,
                batch_size=50, tol=0.0, n_iter_no_change=EPOCHS,
            )  # fmt: skip
            with warnings.catch_warnings(action="ignore"):  # it ends at max_iter
                net.fit(X, of_kind)
            rows.append((kind, width, float(net.score(X, of_kind)),
                         float(net.score(X_test, y_test))))  # fmt: skip
    widest = {row[0]: row for row in rows if row[1] == WIDTHS[-1]}
    narrow = {row[0]: row for row in rows if row[1] == WIDTHS[0]}
    conclusion = (
        f"With {WIDTHS[-1]} hidden units the network knows {widest['random'][2]:.0%} of {N_TRAIN}"
        f" random labels by heart and is right on {widest['random'][3]:.0%} of new digits (chance"
        f" is 10%), with true labels on {widest['true'][3]:.0%}; with {WIDTHS[0]} units it learns"
        f" {narrow['random'][2]:.0%} of the random labels and {narrow['true'][2]:.0%} of the true"
        " ones."
    )

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for kind in labels:
            of_kind = [row for row in rows if row[0] == kind]
            (line,) = ax.plot(WIDTHS, [r[2] for r in of_kind], marker="o",
                              label=f"{kind} labels, training")  # fmt: skip
            ax.plot(WIDTHS, [r[3] for r in of_kind], marker="o", linestyle="--",
                    color=line.get_color(), label=f"{kind} labels, new digits")  # fmt: skip
        ax.set(xscale="log", xlabel="hidden units", ylabel="accuracy")
        figure.legend(loc="outside right upper")

    columns = ("labels", "hidden units", "training accuracy", "accuracy on new digits")
    return Study("What does a network learn by heart?", columns, rows, conclusion, draw)
