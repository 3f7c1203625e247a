"""How long does it take to reach 97.5 % on the test set of MNIST?"""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np

from bench import peers
from bench.cells import Cell
from bench.pairing import PAUSE_SECONDS, THREADS
from bench.start import start
from bench.table import Table, number
from fastgd.datasets import load_mnist

CELL = Cell((784, 256, 128, 10), 128, 468, 1)
GOAL, MOST_EPOCHS, SEEDS = 0.975, 15, 5


@functools.cache
def data() -> Any:
    """The real images, or the reason why there are none."""
    try:
        return load_mnist(download=False)
    except FileNotFoundError as error:
        return str(error)


def race(learner: Any, seed: int) -> tuple[float, int, float]:
    """Seconds and epochs of training until the goal, and the accuracy then.

    Accuracy is measured after each epoch, outside of the clock.
    """
    _, _, X_test, y_test = data()
    learner.reset(seed)
    seconds = 0.0
    for n_epochs in range(1, MOST_EPOCHS + 1):
        time.sleep(PAUSE_SECONDS)
        started = time.perf_counter()
        learner.epoch()
        seconds += time.perf_counter() - started
        accuracy = float(np.mean(learner.predict(X_test) == y_test))
        if accuracy >= GOAL:
            return seconds, n_epochs, accuracy
    return np.nan, MOST_EPOCHS, accuracy


class Learner:
    """Epochs of a ``bench.peers.trainer.Trainer``, in new orders."""

    def __init__(self, make: Any, cell: Cell, X: Any, y: Any) -> None:
        self._cell, self._n_samples, self._trainer = cell, len(X), make(cell, X, y)

    def reset(self, seed: int) -> None:
        w, self._random_state = start(self._cell, seed)
        self._trainer.reset(w)

    def epoch(self) -> None:
        order = self._random_state.permutation(self._n_samples)
        float(self._trainer.epoch(self._trainer.as_order(order)))

    def predict(self, X: Any) -> Any:
        return self._trainer.predict(X)


def learner(peer: str) -> Any:
    """What a peer learns MNIST with, its code compiled."""
    module, (X, y, _, _) = peers.module(peer), data()
    make = getattr(module, "learner", None) or functools.partial(Learner, module.Trainer)
    made = make(CELL, X, y)
    made.reset(0)
    made.epoch()
    return made


def report() -> None:
    """Seconds of training until the goal: medians over the seeds."""
    if isinstance(data(), str):
        print(f"Skipped: {data()}")
        return
    columns = [f"MNIST to {GOAL:.1%}, {CELL}", "seconds", "epochs", "accuracy", "/ fastgd"]
    with peers.threads(THREADS):
        learners = {peer: learner(peer) for peer in peers.present()}
        # In turns, so that all share what disturbs.
        rounds = [
            {peer: race(one, seed) for peer, one in learners.items()} for seed in range(SEEDS)
        ]
    middle = {peer: np.median([races[peer] for races in rounds], axis=0) for peer in learners}
    table = Table(columns)
    for peer, (seconds, epochs, accuracy) in middle.items():
        times = seconds / middle["fastgd"][0]
        table.row(peer, number(seconds), f"{epochs:.0f}", f"{accuracy:.2%}", f"{times:.2f}")
