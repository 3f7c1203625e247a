"""Overconfidence: how sure a trained network is of images of pure noise."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn import datasets

from fastgd.neural_network import MLPClassifier
from fastgd.studies.study import Study

N_NOISE = 2_000
N_TRAIN = 1_000
NETWORKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "L2 penalty": {"alpha": 3.0},
    "dropout": {"dropout": 0.5},
    "a tenth of the data": {"n_train": N_TRAIN // 10},
    "noise as a class of its own": {"with_noise": True},
}


def noise() -> Study:
    """Networks on handwritten digits, shown images whose pixels are drawn at random."""
    X, y = datasets.load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(X))
    X, y = X[order] / 16.0, y[order]
    images = rng.random((N_NOISE, X.shape[1]))
    rows: list[tuple[Any, ...]] = []
    found = {}
    for name, changes in NETWORKS.items():
        net = _train(X[:N_TRAIN], y[:N_TRAIN], rng, **changes)
        on_noise = net.predict_proba(images)[:, :10].max(axis=1)
        on_test = net.predict_proba(X[N_TRAIN:])[:, :10].max(axis=1)
        accuracy = float(np.mean(net.predict(X[N_TRAIN:]) == y[N_TRAIN:]))
        found[name] = on_noise
        rows.append((name, accuracy, float(on_test.mean()), float(on_noise.mean()),
                     float(np.mean(on_noise > 0.9))))  # fmt: skip
    plain = rows[0]
    least = min(rows[1:], key=lambda row: row[3])
    most = max(rows[1:], key=lambda row: row[3])
    conclusion = (
        f"The plain network is on average {plain[3]:.0%} sure which digit an image of noise shows,"
        f" and more than 90 % sure of {plain[4]:.0%} of them; {least[0]} brings that down to"
        f" {least[3]:.0%} at {least[1]:.1%} accuracy ({plain[1]:.1%} without), while with"
        f" {most[0]} it is {most[3]:.0%}."
    )

    def draw(figure: Any) -> None:
        ax = figure.subplots()
        for name, confidence in found.items():
            ax.hist(confidence, np.linspace(0, 1, 41), histtype="step", linewidth=1.6, label=name)
        ax.set(xlabel="largest probability of a digit, for images of noise", ylabel="images")
        figure.legend(loc="outside right upper")

    columns = (
        "network", "test accuracy", "confidence on test", "confidence on noise", "noise above 0.9",
    )  # fmt: skip
    return Study("How sure is a network of noise?", columns, rows, conclusion, draw)


def _train(
    X: Any, y: Any, rng: Any, n_train: int | None = None, with_noise: bool = False, **changes: Any
) -> MLPClassifier:
    X, y = X[:n_train], y[:n_train]
    if with_noise:
        X = np.concatenate([X, rng.random((len(X) // 2, X.shape[1]))])
        y = np.concatenate([y, np.full(len(X) - len(y), 10)])
    net = MLPClassifier((64,), random_state=0, max_iter=200, **changes)
    with warnings.catch_warnings(action="ignore"):  # it need not have converged
        return net.fit(X, y)
