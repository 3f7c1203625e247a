"""Initial weights and depth: what is left of the gradient, and whether the network learns."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastgd.kernels.layout import parameter_views
from fastgd.neural_network import MLPClassifier
from fastgd.neural_network.course import Course
from fastgd.optimizers import SGD
from fastgd.studies.study import Study, digits

DEPTHS = (1, 2, 4, 8, 12)
WIDTH = 32
PASSES = 30
SCHEMES: dict[str, Any] = {
    "zeros": lambda n_in, n_out, rng: np.zeros((n_in, n_out)),
    "small": lambda n_in, n_out, rng: 0.01 * rng.normal(size=(n_in, n_out)),
    "large": lambda n_in, n_out, rng: rng.normal(size=(n_in, n_out)),
    "glorot": "glorot",
    "he": "he",
}


def initialization() -> Study:
    """Networks of relu units on digits, from five kinds of initial weights."""
    X, X_test, y, y_test = digits()
    rows: list[tuple[Any, ...]] = []
    for scheme, init in SCHEMES.items():
        for depth in DEPTHS:
            first, last = gradient_norms(X, y, init, depth)[[0, -1]]
            accuracy = accuracy_after_training(X, y, X_test, y_test, init, depth)
            rows.append((scheme, depth, first, last, accuracy))
    deepest = {row[0]: row for row in rows if row[1] == DEPTHS[-1]}
    shallow = {row[0]: row for row in rows if row[1] == DEPTHS[0]}
    best = max(deepest.values(), key=lambda row: row[4])
    chance = np.mean(y_test == np.bincount(y_test).argmax())
    stuck = [name for name, row in deepest.items() if not row[4] >= 2 * chance]
    change = {n: deepest[n][2] / max(shallow[n][2], 1e-300) for n in ("small", "large", "he")}
    conclusion = (
        f"From {DEPTHS[0]} to {DEPTHS[-1]} hidden layers the gradient of the first layer changes by"
        f" a factor {change['small']:.0e} from small weights, {change['large']:.0e} from large ones"
        f" and {change['he']:.1g} from he's; at {DEPTHS[-1]} layers {best[0]} is the most accurate"
        f" ({best[4]:.1%}), and {', '.join(stuck) or 'none'} did not learn (chance: {chance:.0%})."
    )

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        for scheme in SCHEMES:
            of_scheme = [row for row in rows if row[0] == scheme]
            norms = [max(row[2], 1e-30) for row in of_scheme]
            left.plot(DEPTHS, norms, marker="o", label=scheme)
            right.plot(DEPTHS, [row[4] for row in of_scheme], marker="o")
        left.set(yscale="log", xlabel="hidden layers", ylabel="gradient norm of the first layer")
        right.set(xlabel="hidden layers", ylabel=f"test accuracy after {PASSES} passes")
        figure.legend(loc="outside right upper")

    columns = ("weights", "hidden layers", "‖g‖ first layer", "‖g‖ last layer", "test accuracy")
    return Study("What do the initial weights do?", columns, rows, conclusion, draw)


def _network(init: Any, depth: int, activation: str = "relu") -> MLPClassifier:
    return MLPClassifier(
        (WIDTH,) * depth, activation=activation, init=init, random_state=0, n_jobs=1, batch_size=32,
        solver=SGD(learning_rate=0.01, momentum=0.9),
    )  # fmt: skip


def gradient_norms(
    X: Any, y: Any, init: Any, depth: int, activation: str = "relu"
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Norm of the gradient by the weights of each layer, before training."""
    f = _network(init, depth, activation).objective(X, y)
    coefs, _ = parameter_views(f.grad(f.x0), f.layers)
    return np.array([np.linalg.norm(part) for part in coefs])


def accuracy_after_training(
    X: Any, y: Any, X_test: Any, y_test: Any, init: Any, depth: int, activation: str = "relu"
) -> float:
    net = _network(init, depth, activation)
    course = Course(net, X, y)
    with np.errstate(all="ignore"):
        for _ in range(PASSES):
            w = course.epoch()
    if not np.isfinite(w).all():
        return float("nan")
    return float(net.set_weights(w).score(X_test, y_test))
