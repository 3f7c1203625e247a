"""What the peers without a ``fit`` have instead: an object that trains one epoch at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.cells import Cell, samples
from bench.start import start


class Trainer(Protocol):
    """A network on its training data."""

    def reset(self, w: NDArray[Any]) -> None:
        """Begin from these parameters with an optimizer that has seen nothing."""

    def epoch(self, order: Any) -> Any:
        """Train on the samples in this order; returns the mean loss of the batches."""

    def predict(self, X: NDArray[Any]) -> Any:
        """Class numbers."""


def fit_run(make: Callable[[Cell, Any, Any], Any], cell: Cell) -> Callable[[], tuple[Any, ...]]:
    """A run that does what ``fit`` does, initial weights and orders included.

    Returns the loss curve.
    """
    trainer = make(cell, *samples(cell))

    def run() -> tuple[Any, ...]:
        w, random_state = start(cell)
        trainer.reset(w)
        curve, order = [], np.arange(cell.n_samples)
        for _ in range(cell.n_epochs):
            random_state.shuffle(order)
            curve.append(trainer.epoch(trainer.as_order(order)))
        return ([float(loss) for loss in curve],)

    return run
