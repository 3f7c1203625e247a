"""What the peers without a ``fit`` have instead: an object that trains one epoch at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from numpy.typing import NDArray

from bench.cells import Cell, samples
from bench.start import orders, start


class Trainer(Protocol):
    """A network on its training data."""

    def reset(self, w: NDArray[Any]) -> None:
        """Begin from these parameters with an optimizer that has seen nothing."""

    def epoch(self, order: Any) -> Any:
        """Train on the samples in this order; returns the mean loss of the batches."""

    def predict(self, X: NDArray[Any]) -> Any:
        """Class numbers."""


def fit_run(make: Callable[[Cell, Any, Any], Any], cell: Cell) -> Callable[[], tuple[Any, ...]]:
    """A run that does what ``fit`` does and returns the loss curve.

    The orders are drawn outside of the clock, a present to the peers.
    """
    trainer = make(cell, *samples(cell))
    w, prepared = start(cell)[0], [trainer.as_order(order) for order in orders(cell)]

    def run() -> tuple[Any, ...]:
        trainer.reset(w)
        curve = [trainer.epoch(order) for order in prepared]
        return ([float(loss) for loss in curve],)

    return run
