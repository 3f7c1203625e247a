"""One epoch of mini-batches at a time, in slices short enough for Ctrl-C and progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from fastgd.kernels.dropout import Dropout, NoDropout
from fastgd.kernels.epoch import Batches, Limits, NoLimits, run_batches
from fastgd.kernels.layout import make_workspace
from fastgd.kernels.linalg import Dense
from fastgd.neural_network.problem import Problem
from fastgd.optimizers import Optimizer, schedules

SLICE_SECONDS = 0.1


class EpochRunner:
    """Runs epochs over the samples ``rows`` of a problem.

    Parameters
    ----------
    problem : Problem
    rows : ndarray of int or None
        The samples to train on; None: all.
    batch_size : int
    optimizer : Optimizer
    shuffle : bool
        Draw a new order before each epoch.
    random_state : RandomState
    dropout : bool
        Whether some layer has a dropout rate.
    limits : Limits
    schedule : callable or None
        Factor of the learning rate as a function of the number of updates made.
    """

    def __init__(
        self,
        problem: Problem,
        rows: NDArray[np.int64] | None,
        batch_size: int,
        optimizer: Optimizer,
        *,
        shuffle: bool,
        random_state: RandomState,
        dropout: bool,
        limits: Limits,
        schedule: Callable[[Any], Any] | None,
    ) -> None:
        self.problem, self.optimizer = problem, optimizer
        self.n_samples = problem.n_samples if rows is None else rows.size
        self.n_batches = -(-self.n_samples // batch_size)
        self.batch_size = batch_size
        self._order = np.empty(0, np.int64) if rows is None else rows
        if shuffle and rows is None:
            self._order = np.arange(self.n_samples)
        self._shuffle, self._random_state = shuffle, random_state
        # Drawn only where it is needed: otherwise the draws would not be scikit-learn's.
        seed = random_state.randint(2**31 - 1) if dropout else 0
        self._dropout = Dropout(seed) if dropout else NoDropout()
        self._limits = limits if any(limits) else NoLimits()
        self._schedule = schedule
        gather = isinstance(problem.data.X, Dense) and self._order.size > 0
        self._work = make_workspace(
            problem.layers, batch_size, problem.dtype, problem.data.y, gather
        )
        self._totals = np.zeros(4 + problem.layers.size)
        self._slice = 1  # batches that fit into SLICE_SECONDS, as far as is known

    def run(self, w: NDArray[Any], grad: NDArray[Any]) -> None:
        """Train ``w`` in place for one epoch; ``mean_loss`` and ``grad_norms`` tell about it."""
        if self._shuffle:
            self._random_state.shuffle(self._order)
        self._totals[:] = 0.0
        first = 0
        while first < self.n_batches:
            last = min(first + self._slice, self.n_batches)
            started = time.perf_counter()
            self._run_slice(w, grad, first, last)
            seconds = time.perf_counter() - started
            possible = (last - first) * SLICE_SECONDS / max(seconds, 1e-9)
            # The first slice holds the compilation, so a slow one says little.
            self._slice = int(min(max(possible, 1), 64 * self._slice))
            first = last

    def _run_slice(self, w: NDArray[Any], grad: NDArray[Any], first: int, last: int) -> None:
        optimizer, problem = self.optimizer, self.problem
        rates = np.full(last - first, optimizer.learning_rate)
        if self._schedule is not None:
            steps = np.arange(optimizer.n_updates, optimizer.n_updates + last - first)
            rates *= schedules.factors(self._schedule, steps)
        optimizer.n_updates = run_batches(
            problem.layers, w, grad, problem.data,
            Batches(self._order, self.n_samples, self.batch_size, first, last),
            problem.loss, optimizer.rule, optimizer.memory, rates, optimizer.n_updates,
            problem.alpha, self._dropout, self._limits, self._work, self._totals,
        )  # fmt: skip

    @property
    def mean_loss(self) -> float:
        """Mean over the samples of the objective of their batch, as it was before its update.

        Of the samples so far, if the epoch was interrupted; NaN before the first.
        """
        data_term, penalty, n_samples = self._totals[:3]
        if n_samples == 0:
            return np.nan
        return float(self.problem.reported(data_term / n_samples, penalty / n_samples))

    @property
    def grad_norms(self) -> NDArray[np.float64]:
        """Mean over the batches of the norm of each layer's weight gradient, shape (L,)."""
        return self._totals[4:] / max(self._totals[3], 1.0)
