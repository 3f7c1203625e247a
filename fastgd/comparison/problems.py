"""Problems to compare optimizers on: real data, a split, and a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from fastgd.datasets import load_mnist

TEST_SHARE = 0.2


@dataclass(frozen=True)
class Problem:
    """Scaled training and test data.

    Attributes
    ----------
    name : str
    task : {"classification", "regression"}
    X_train, X_test : ndarray of shape (n_samples, n_features), float32
    y_train, y_test : ndarray of shape (n_samples,)
    """

    name: str
    task: str
    X_train: NDArray[np.float32]
    X_test: NDArray[np.float32]
    y_train: NDArray[Any]
    y_test: NDArray[Any]


def _bundled(loader: Callable[..., Any], task: str) -> Callable[[str, int], Problem]:
    """A data set that scikit-learn ships: split by the seed, scaled by the training part."""

    def load(name: str, seed: int) -> Problem:
        X, y = loader(return_X_y=True)
        X_train, X_test, y_train, y_test = train_test_split(
            X, y, test_size=TEST_SHARE, random_state=seed,
            stratify=y if task == "classification" else None,
        )  # fmt: skip
        scaler = StandardScaler().fit(X_train)
        X_train, X_test = (scaler.transform(part).astype(np.float32) for part in (X_train, X_test))
        if task == "regression":
            mean, scale = y_train.mean(), y_train.std()
            y_train, y_test = (y_train - mean) / scale, (y_test - mean) / scale
        return Problem(name, task, X_train, X_test, y_train, y_test)

    return load


def _mnist(name: str, seed: int) -> Problem:
    X_train, y_train, X_test, y_test = load_mnist()
    return Problem(name, "classification", X_train, X_test, y_train, y_test)


PROBLEMS: dict[str, Callable[[str, int], Problem]] = {
    "digits": _bundled(datasets.load_digits, "classification"),
    "iris": _bundled(datasets.load_iris, "classification"),
    "wine": _bundled(datasets.load_wine, "classification"),
    "breast-cancer": _bundled(datasets.load_breast_cancer, "classification"),
    "diabetes": _bundled(datasets.load_diabetes, "regression"),
    "mnist": _mnist,
}


def load_problem(name: str, seed: int = 0) -> Problem:
    """Load a problem by its name; the seed decides the split, where there is one to make.

    Raises
    ------
    ValueError
        There is no problem of that name.

    Examples
    --------
    >>> load_problem("digits").X_train.shape
    (1437, 64)
    """
    if name not in PROBLEMS:
        raise ValueError(f"problem must be one of {', '.join(PROBLEMS)}; got {name!r}.")
    return PROBLEMS[name](name, seed)
