"""Sigmoid against relu over depth: how much of the gradient reaches each layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastgd.studies.initialization import accuracy_after_training, gradient_norms
from fastgd.studies.study import Study, digits

DEPTHS = (1, 2, 4, 6, 8)


def vanishing() -> Study:
    """Networks with glorot weights on digits."""
    X, X_test, y, y_test = digits()
    rows: list[tuple[Any, ...]] = []
    layers: dict[str, Any] = {}
    for activation in ("logistic", "tanh", "relu"):
        for depth in DEPTHS:
            norms = gradient_norms(X, y, "glorot", depth, activation)
            accuracy = accuracy_after_training(X, y, X_test, y_test, "glorot", depth, activation)
            rows.append((activation, depth, norms[0], norms[-1], norms[0] / norms[-1], accuracy))
            layers[activation] = norms  # of the deepest
    deepest = {row[0]: row for row in rows if row[1] == DEPTHS[-1]}
    a_layer = {name: row[4] ** (1 / DEPTHS[-1]) for name, row in deepest.items()}
    conclusion = (
        f"With {DEPTHS[-1]} hidden layers the first layer's gradient is"
        f" {deepest['logistic'][4]:.0e} of the last one's with sigmoid units (a factor"
        f" {a_layer['logistic']:.2f} a layer) and {deepest['relu'][4]:.2g} with relu"
        f" ({a_layer['relu']:.2f} a layer); after the same training the accuracies are"
        f" {deepest['logistic'][5]:.1%} and {deepest['relu'][5]:.1%}."
    )

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        for activation, norms in layers.items():
            left.plot(np.arange(1, norms.size + 1), norms, marker="o", label=activation)
            of_it = [row for row in rows if row[0] == activation]
            right.plot([row[1] for row in of_it], [row[5] for row in of_it], marker="o")
        left.set(yscale="log", xlabel=f"layer, of {DEPTHS[-1]} hidden ones and the output",
                 ylabel="gradient norm")  # fmt: skip
        right.set(xlabel="hidden layers", ylabel="test accuracy")
        figure.legend(loc="outside right upper")

    columns = ("activation", "hidden layers", "‖g‖ first", "‖g‖ last", "first / last", "accuracy")
    return Study("Where do gradients vanish?", columns, rows, conclusion, draw)
