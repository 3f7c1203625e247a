"""Which networks, and which data they are trained on.

Imports NumPy and SciPy alone: the processes that measure import times load this file too.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from numpy.random import RandomState
from numpy.typing import NDArray

ALPHA = 1e-4  # L2 penalty, scikit-learn's default
SEED = 0


class Cell(NamedTuple):
    """One network, how it is trained, and how long a run of it is."""

    sizes: tuple[int, ...]
    batch_size: int
    n_batches: int
    n_epochs: int
    activation: str = "relu"
    loss: str = "log_loss"  # of one class out of many; "labels": of each output; "squared_error"
    dtype: str = "float32"
    solver: str = "adam"
    density: float = 1.0  # below 1: CSR input
    alpha: float = ALPHA

    def __str__(self) -> str:
        usual = Cell(*self[:4])
        special = (
            f"CSR {self.density:.1%}" if name == "density" else str(getattr(self, name))
            for name in ("activation", "loss", "dtype", "solver", "density")
            if getattr(self, name) != getattr(usual, name)
        )
        return ", ".join(
            ("-".join(map(str, self.sizes)), f"batch {self.batch_size}", *special)
        ).replace("_", " ")

    @property
    def n_samples(self) -> int:
        return self.batch_size * self.n_batches

    @property
    def steps(self) -> int:
        return self.n_batches * self.n_epochs

    @property
    def short_passes(self) -> int:
        """Passes over all samples that take some 20 ms together."""
        return max(1, 10**9 // (self.n_samples * self.n_parameters))

    @property
    def n_parameters(self) -> int:
        return sum((a + 1) * b for a, b in zip(self.sizes[:-1], self.sizes[1:], strict=True))


# So many steps that what a fit costs besides them, some 2 ms of checks and the initial weights, is
# a few percent of it: no fit of ours takes less than 40 ms.
TRAINING = (
    Cell((4, 8, 3), 16, 500, 100),
    Cell((64, 32, 10), 1, 1500, 20),
    Cell((64, 32, 10), 32, 400, 20),
    Cell((8, 64, 64, 2), 64, 200, 20, loss="labels"),
    Cell((784, 256, 128, 10), 128, 40, 6),
    Cell((784, 800, 800, 10), 256, 10, 10),
    Cell((1024, 2048, 1024, 10), 512, 3, 16),
    Cell((64, 128, 128, 10), 64, 200, 8, activation="tanh"),
    Cell((8, 64, 64, 1), 64, 200, 20, loss="squared_error"),
    Cell((64, 32, 10), 32, 400, 20, dtype="float64"),
    Cell((5000, 64, 10), 125, 160, 4, density=0.005),
    Cell((64, 32, 10), 1, 1500, 30, solver="sgd"),
)


@functools.lru_cache(maxsize=4)
def samples(cell: Cell) -> tuple[Any, NDArray[Any]]:
    """Noisy samples, X (N, D) and targets y, which no network explains completely.

    A loss that reaches zero would compare nothing, and its gradients would be full of slow
    denormal numbers.
    """
    rng = RandomState(SEED)
    n_samples, n_features, n_outputs = cell.n_samples, cell.sizes[0], cell.sizes[-1]
    if cell.density < 1.0:
        return _texts(rng, cell)
    if cell.loss == "log_loss":
        # Every class occurs, however few the samples are.
        y = rng.permutation(np.arange(n_samples) % n_outputs)
        centres = rng.normal(size=(n_outputs, n_features)) * (2.0 / np.sqrt(n_features))
        return _normal(rng, cell, centres[y]), y
    X = _normal(rng, cell, 0.0)
    raw = X @ rng.normal(size=(n_features, n_outputs)) + rng.normal(size=(n_samples, n_outputs))
    return X, (raw > 0).astype(np.int64) if cell.loss == "labels" else raw[:, 0].astype(X.dtype)


def _normal(rng: RandomState, cell: Cell, mean: Any) -> NDArray[Any]:
    return (mean + rng.normal(size=(cell.n_samples, cell.sizes[0]))).astype(cell.dtype)


def _texts(rng: RandomState, cell: Cell) -> tuple[Any, NDArray[Any]]:
    """Rows of word weights: frequent words as in a language (Zipf), some typical of a class.

    All rows have the same number of words, which the peers that need fixed shapes depend on.
    """
    n, n_words, n_classes = cell.n_samples, cell.sizes[0], cell.sizes[-1]
    length = round(n_words * cell.density)
    y = rng.permutation(np.arange(n) % n_classes)
    odds = 1.0 / np.arange(1, n_words + 1) * rng.gamma(1.0, size=(n_classes, n_words))
    columns = np.empty((n, length), np.int32)
    for row, label in enumerate(y):
        # The largest of Gumbel-perturbed logarithms: a draw without replacement.
        keys = np.log(odds[label]) + rng.gumbel(size=n_words)
        columns[row] = np.sort(np.argpartition(keys, -length)[-length:])
    values = rng.uniform(0.1, 0.4, columns.size).astype(cell.dtype)
    rows = np.arange(0, columns.size + 1, length, dtype=np.int32)
    return scipy.sparse.csr_matrix((values, columns.ravel(), rows), (n, n_words)), y
