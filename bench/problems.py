"""Which networks and which data the benchmarks run on.

Imports NumPy alone: the processes that measure import times load this file too.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Cell(NamedTuple):
    """One network at one batch size, and how long a run of it is."""

    sizes: tuple[int, ...]
    batch_size: int
    n_batches: int
    n_epochs: int  # of one fit
    large: bool  # whether its products are worth more than one BLAS thread

    def __str__(self) -> str:
        return f"{'-'.join(map(str, self.sizes))}, batch {self.batch_size}"

    @property
    def n_samples(self) -> int:
        return self.batch_size * self.n_batches


# So many epochs that what a fit costs besides them, some 1 ms, is 1 or 2 % of it.
SMALL = Cell((64, 32, 10), 32, 200, 30, large=False)
SINGLE = Cell((64, 32, 10), 1, 600, 10, large=False)
MNIST = Cell((784, 256, 128, 10), 128, 20, 10, large=True)
CELLS = (SMALL, SINGLE, MNIST)

# Lengths of the parameter vector: round ones, and those of the two networks.
PARAMETER_COUNTS = (1_000, 2_410, 100_000, 235_146)

ALPHA = 1e-4  # L2 penalty, scikit-learn's default
SEED = 0


@functools.cache
def samples(cell: Cell) -> tuple[NDArray[Any], NDArray[Any]]:
    """Noisy points around one centre a class, X (N, D) in float32 and class numbers y (N,).

    The noise is so large that no network separates the classes: a loss that reaches zero
    would compare nothing, and its gradients would be full of slow denormal numbers.
    """
    rng = np.random.RandomState(SEED)
    n_features, n_classes = cell.sizes[0], cell.sizes[-1]
    # Every class occurs, however few the samples are.
    y = rng.permutation(np.arange(cell.n_samples) % n_classes)
    centres = rng.normal(size=(n_classes, n_features)) * (2.0 / np.sqrt(n_features))
    X = centres[y] + rng.normal(size=(cell.n_samples, n_features))
    return X.astype(np.float32), y
