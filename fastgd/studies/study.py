"""A study: a question, a table of measurements, a sentence computed from them, a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler


@dataclass(frozen=True)
class Study:
    """The result of one experiment.

    Attributes
    ----------
    question : str
    columns : sequence of str
    rows : sequence of sequences
        Measurements.
    conclusion : str
        One sentence, computed from the measurements.
    draw : callable
        ``draw(figure)`` draws them by Matplotlib.
    """

    question: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    conclusion: str
    draw: Callable[[Any], None]

    def plot(self) -> Any:
        """Draw the measurements; the Matplotlib figure."""
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(9, 4.2), layout="constrained")
        self.draw(figure)
        figure.suptitle(self.question)
        return figure


def digits(seed: int = 0, n_train: int | None = None) -> tuple[Any, Any, Any, Any]:
    """Handwritten digits, scaled by the training part: X_train, X_test, y_train, y_test."""
    X, y = datasets.load_digits(return_X_y=True)
    return _split(X, y, seed, n_train, classes=True)


def diabetes(seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """Diabetes progression, features and target scaled by the training part."""
    X, y = datasets.load_diabetes(return_X_y=True)
    return _split(X, (y - y.mean()) / y.std(), seed, None, classes=False)


def wine(seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """Wine cultivars by chemical analysis."""
    X, y = datasets.load_wine(return_X_y=True)
    return _split(X, y, seed, None, classes=True)


def _split(
    X: Any, y: Any, seed: int, n_train: int | None, classes: bool
) -> tuple[Any, Any, Any, Any]:
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.3, train_size=n_train, random_state=seed, stratify=y if classes else None
    )
    scaler = StandardScaler().fit(X_train)
    X_train, X_test = (scaler.transform(part).astype(np.float64) for part in (X_train, X_test))
    return X_train, X_test, y_train, y_test
