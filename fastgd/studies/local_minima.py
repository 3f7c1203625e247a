"""Local minima: one start against several, with and without momentum."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from fastgd.neural_network import MLPClassifier
from fastgd.optimizers import SGD
from fastgd.studies.study import Study, wine

STARTS = 60
GROUP = 10  # starts of which the best is kept
PASSES = 400  # until nothing moves any more
RULES = {
    "gradient descent": SGD(learning_rate=0.1),
    "momentum": SGD(learning_rate=0.02, momentum=0.9),
}


def local_minima() -> Study:
    """A network of two relu units on the wine data, from many initial weights."""
    X, _, y, _ = wine()
    losses = {name: _losses(rule, X, y) for name, rule in RULES.items()}
    rows: list[tuple[Any, ...]] = []
    for name, found in losses.items():
        groups = found[: STARTS // GROUP * GROUP].reshape(-1, GROUP).min(axis=1)
        near = float(np.mean(found <= 2 * found.min()))
        rows.append((name, 1, float(np.median(found)), float(found.max()), near))
        near_best = float(np.mean(groups <= 2 * found.min()))
        rows.append((name, GROUP, float(np.median(groups)), float(groups.max()), near_best))
    plain, plain_best, fast, fast_best = rows
    conclusion = (
        f"From one start {plain[4]:.0%} of the runs of gradient descent end within twice its lowest"
        f" loss, and {fast[4]:.0%} with momentum; the best of {GROUP} starts does in"
        f" {plain_best[4]:.0%} and {fast_best[4]:.0%} of the cases; momentum comes to a median of"
        f" {fast[2]:.2g} instead of {plain[2]:.2g}, and its worst loss is {fast_best[3]:.2g} with"
        f" {GROUP} starts instead of {fast[3]:.2g} with one."
    )

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for name, found in losses.items():
            ax.plot(np.sort(found), marker=".", label=name)
        ax.set(yscale="log", xlabel="starts, sorted", ylabel="training loss at the end")
        figure.legend(loc="outside right upper")

    columns = ("rule", "starts", "median loss", "worst loss", "share within 2 × its lowest")
    return Study("How much depends on the start?", columns, rows, conclusion, draw)


def _losses(rule: Any, X: Any, y: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Training loss at the end, from each start."""
    found = []
    for seed in range(STARTS):
        net = MLPClassifier(
            (2,), solver=rule, batch_size=32, max_iter=PASSES, tol=0.0,
            n_iter_no_change=PASSES, random_state=seed, alpha=1e-3, n_jobs=1,
        )  # fmt: skip
        with warnings.catch_warnings(action="ignore"):  # all end at max_iter
            found.append(net.fit(X, y).loss_)
    return np.array(found)
