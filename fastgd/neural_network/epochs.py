"""One epoch of mini-batches at a time, in slices short enough for Ctrl-C and progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from fastgd._jit import compile_by_two, is_at_hand
from fastgd._jit.cache import is_ours
from fastgd._threads import allowed_threads, reserved, threads_worth
from fastgd.kernels.aligned import aligned_zeros
from fastgd.kernels.dropout import Dropout, dropout_part
from fastgd.kernels.epoch import (
    compile_run_batches,
    rule_part,
    run_batches,
    run_batches_types,
    train_on_batches,
)
from fastgd.kernels.layout import (
    make_room_for_gradient,
    multiplications,
    parameter_views,
    plan_of_helper,
    set_parts,
    tasks_of_parts,
    team_size,
)
from fastgd.kernels.limits import Limits, limit_parts
from fastgd.kernels.linalg import CSR
from fastgd.kernels.listed import LISTS
from fastgd.kernels.parts import NOTHING
from fastgd.kernels.plan import Plan
from fastgd.kernels.shuffle import shuffle as shuffle_rows
from fastgd.kernels.shuffle import shuffle_code
from fastgd.kernels.team import Helpers, team_entries, together
from fastgd.neural_network.pace import Pace
from fastgd.neural_network.problem import Problem
from fastgd.optimizers import Optimizer, schedules

# Multiplications a step from which a thread is worth it: the threads wait for each other twice
# a step, which costs about as much time as 50,000 of them.
LEAST_A_STEP = 400_000
# Multiplications of a batch that take about a millisecond.
LEAST_TO_START_A_THREAD = 40_000_000

# Precisions that the loop over batches is ready for.
_compiled: set[np.dtype[Any]] = set()


class EpochRunner:
    """Runs epochs over the samples ``rows`` of a problem.

    Parameters
    ----------
    problem : Problem
    rows : ndarray of int or None
        The samples to train on; None: all.
    batch_size : int
    optimizer : Optimizer
    shuffle : callable or None
        Puts row numbers in a new order before each epoch, in place.
    random_state : RandomState
        Decides the dropout masks.
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
        shuffle: Callable[[NDArray[np.int64]], None] | None,
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
        if shuffle is not None and rows is None:
            self._order = np.arange(self.n_samples)
        self._shuffle = shuffle
        # Drawn only where it is needed: otherwise the draws would not be scikit-learn's.
        seed = random_state.randint(2**31 - 1) if dropout else 0
        dropout_masks = dropout_part(Dropout(seed), problem.dtype) if dropout else NOTHING
        self._schedule, self._max_norm = schedule, limits.max_norm
        self._totals = aligned_zeros(4 + problem.layers.size, np.float64)
        self._updates = aligned_zeros(1, np.int64)
        work = multiplications(problem.layers, batch_size)
        n_threads = threads_worth(work, problem.n_jobs, LEAST_A_STEP)
        if problem.dtype not in _compiled:
            self._compile(n_threads)
        plan = self._plan_with_buffers(at_once=not any(limits))
        plan.set(
            order=self._order, n_samples=self.n_samples, totals=self._totals,
            updates=self._updates, dropout=dropout_masks, **limit_parts(limits, problem.dtype),
        )  # fmt: skip
        self._plans = [plan]  # and of helpers, when they are needed
        self._has_long_batches = work >= LEAST_TO_START_A_THREAD
        self._pace = Pace(
            team_size(n_threads, batch_size), compiles=problem.dtype not in _compiled,
            long_batches=self._has_long_batches,
        )  # fmt: skip

    def _plan_with_buffers(self, at_once: bool) -> Plan:
        """A plan with the samples: that of the epoch before, if its buffers are as they must be.

        To make one takes a fifth of the time of a call of ``partial_fit`` with a few samples.
        """
        problem, optimizer = self.problem, self.optimizer
        gather = self._order.size > 0
        kind = (*problem.kind, self.batch_size, gather, at_once)
        kept_kind, plan = optimizer.take_plan()
        if plan is not None and kind == kept_kind:
            problem.set_samples(plan)
        else:
            plan = set_parts(problem.plan(self.batch_size, gather))
            # A rule that looks at all parameters together has one chunk, whatever the gradient has.
            one_by_one = np.array_equal(optimizer.memory.chunks, plan["chunks"])
            make_room_for_gradient(plan.set(at_once=at_once and one_by_one))
        self._kind = kind
        return plan

    def keep_plan(self) -> None:
        """Leave the buffers, without the samples, to a runner that goes on with the optimizer.

        Unless they are large, and to make them takes no time beside that of a batch.
        """
        if self._has_long_batches:
            return
        plan = self._plans[0]
        plan.forget("values", "indices", "indptr", "y", "weight", "order", *LISTS)
        self.optimizer.keep_plan(self._kind, plan)

    def _compile(self, n_threads: int) -> None:
        """Let two processes compile what the training calls, if it is not on disk."""
        problem, rule = self.problem, self.optimizer.rule
        dtype = problem.dtype
        is_there = is_at_hand(run_batches, run_batches_types(dtype))
        if is_there or allowed_threads(problem.n_jobs) < 2:
            return
        tasks: list[Callable[[], Any]] = [partial(compile_run_batches, dtype)]
        if is_ours(type(rule)):
            tasks.append(partial(rule_part, rule, dtype))
        tasks += problem.tasks(self.batch_size)
        is_sparse = isinstance(problem.data.X, CSR)
        tasks += tasks_of_parts(problem.layers, self.batch_size, dtype, is_sparse)
        if n_threads > 1:
            tasks.append(team_entries)
        if getattr(self._shuffle, "func", None) is shuffle_rows:
            tasks.append(shuffle_code)
        compile_by_two(tasks)

    def run(self, w: NDArray[Any], helpers: Helpers | None = None) -> None:
        """Train ``w`` in place for one epoch; ``mean_loss`` and ``grad_norms`` tell about it."""
        if self._shuffle is not None:
            self._shuffle(self._order)
        self._totals[:] = 0.0
        if self._plans[0]["w"] is not w:
            entries = {"rule": self.optimizer.part, **self.optimizer.memory.entries()}
            for plan in self._plans:
                plan.set(w=w, **entries)
        first = 0
        while first < self.n_batches:
            last = min(first + self._pace.n_batches, self.n_batches)
            self._run_slice(first, last, helpers)
            first = last

    def solution(self, w: NDArray[Any]) -> NDArray[Any]:
        """What the rule recommends after its last step: ``w``, or an average within the limits."""
        solution = self.optimizer.solution(w)
        if solution is not w and self._max_norm > 0.0:
            with np.errstate(all="ignore"):  # of what has diverged
                for weights in parameter_views(solution, self.problem.layers)[0]:
                    norms = np.linalg.norm(weights.astype(np.float64), axis=0)
                    weights *= self._max_norm / np.maximum(norms, self._max_norm)
        return solution

    def _run_slice(self, first: int, last: int, helpers: Helpers | None) -> None:
        optimizer = self.optimizer
        rates = np.full(last - first, optimizer.learning_rate)
        if self._schedule is not None:
            steps = np.arange(optimizer.n_updates, optimizer.n_updates + last - first)
            rates *= schedules.factors(self._schedule, steps)
        for plan in self._plans:
            plan.set(rates=rates)
        self._updates[0] = optimizer.n_updates
        with reserved(self._pace.n_threads) as n_threads:
            while len(self._plans) < n_threads:
                self._plans.append(plan_of_helper(self._plans[0]))
            started = time.perf_counter()
            try:
                together(
                    train_on_batches, self._plans, n_threads, first, last, optimizer.n_updates,
                    helpers=helpers,
                )  # fmt: skip
            finally:
                optimizer.n_updates = int(self._updates[0])
            self._pace.learn(n_threads, last - first, time.perf_counter() - started)
        _compiled.add(self.problem.dtype)

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
