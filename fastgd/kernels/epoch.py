"""The mini-batch loop, compiled as a whole: gather, forward, loss, backward, update.

Nothing of Python runs per batch.  The loop is called for a range of batches, so that Python gets
a turn about every 100 ms for Ctrl-C, callbacks and progress.

Several threads may run it together (``fastgd.kernels.team``).  Each takes a share of the rows for
the forward and backward pass.  Processors are not equally fast and not equally busy: of long
batches the last quarter of a share goes to whoever comes first, or where that would take too much,
shares are as large as their members were fast (``fastgd.kernels.shares``).  Then the chunks of the
parameters are dealt out, and whoever has a chunk computes its gradient over all rows and updates
it.  Where ``plan.n_parts`` is 2, the gradient is the sum of the gradients of two parts of the rows,
and in a team of two each member has the one of its own part ready before.  Where ``plan.middle`` is
not 0, the raw values of the first layer are the sum of what two halves of the features give, of
which each member of a team of two has one.  What is added to what does not depend on the number of
threads, so all numbers come out the same, bit by bit.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from fastgd._jit import dispatch_on_class, njit
from fastgd.kernels.halves import call_own_half, each_has_a_half
from fastgd.kernels.linalg import add_to, sum_of_squares, sums_of_squares
from fastgd.kernels.listed import forget_lists
from fastgd.kernels.network import (
    gradient,
    n_parameters_of,
    pass_through,
    total_loss,
    total_weight_of,
)
from fastgd.kernels.parts import (
    Part,
    call_clip,
    call_constrain,
    call_step,
    make_part,
    step_signature,
)
from fastgd.kernels.plan import (
    Plan,
    float64_at,
    float64s,
    int64_at,
    int64s,
    larger,
    layer_at,
    layer_records,
    reals,
    smaller,
    state_rows,
)
from fastgd.kernels.shares import share_anew
from fastgd.kernels.subnormals import flush_subnormals, restore_subnormals
from fastgd.kernels.team import barrier, claim, next_piece, part_of


class Memory(NamedTuple):
    """What an update rule remembers between steps, chunk after chunk."""

    arrays: NDArray[Any]  # flat; a chunk's part is (number of names in ``state``, its length)
    scalars: NDArray[np.float64]  # (C, ``n_scalars`` rounded up to whole lines of the cache)
    chunks: NDArray[np.int64]  # (C + 1,): where the chunks begin and end
    n_arrays: int
    n_scalars: int  # names in the rule's ``scalars``

    def entries(self) -> dict[str, Any]:
        """What a plan needs of it."""
        return {
            "state": self.arrays,
            "scalars": self.scalars,
            "state_chunks": self.chunks,
            "n_state": self.n_arrays,
            "n_scalars": self.n_scalars,
            "scalars_row": self.scalars.shape[1],
            "n_state_chunks": self.chunks.size - 1,
        }

    def rows(self) -> NDArray[Any]:
        """A copy of the arrays, each whole: (number of names in ``state``, n)."""
        k = self.n_arrays
        pieces = [
            self.arrays[k * lo : k * hi].reshape(k, hi - lo)
            for lo, hi in itertools.pairwise(self.chunks)
        ]
        return np.concatenate(pieces, axis=1)

    def take_over(self, other: Memory) -> None:
        """Go on with what another memory holds, whose chunks may be cut elsewhere."""
        if np.array_equal(self.chunks, other.chunks):
            self.arrays[:], self.scalars[:] = other.arrays, other.scalars
            return
        k, rows = self.n_arrays, other.rows()
        for lo, hi in itertools.pairwise(self.chunks):
            self.arrays[k * lo : k * hi] = rows[:, lo:hi].ravel()
        # Those of the chunk in which one begins.
        places = np.searchsorted(other.chunks, self.chunks[:-1], side="right") - 1
        self.scalars[:] = other.scalars[places]


@dispatch_on_class
def step(rule, w, g, state, scalars, t, learning_rate):
    """One update of ``w`` in place, by the gradient ``g``; ``t`` counts the steps from 1."""
    rule.step(w, g, state, scalars, t, learning_rate)


def rule_part(rule: Any, dtype: Any) -> Part:
    """What the kernels call for an update rule."""
    return make_part(rule, _step_part, "step", step_signature(numba.from_dtype(np.dtype(dtype))))


def _step_part(rebuild: Any, cls: type) -> Any:
    def run(fields, w, g, state, scalars, t, learning_rate):
        step(rebuild(fields), w, g, state, scalars, t, learning_rate)

    return run


@njit
def update_chunk(plan, chunk, t, learning_rate):
    """One update of one chunk of the parameters."""
    lo, hi = int64_at(plan.state_chunks, chunk), int64_at(plan.state_chunks, chunk + 1)
    k = plan.n_state
    scalars = chunk * plan.scalars_row
    claim(plan, plan.w + lo * plan.itemsize, plan.w + hi * plan.itemsize)
    call_step(
        plan.rule, plan.rule_fields, reals(plan, plan.w, lo, hi), reals(plan, plan.grad, lo, hi),
        state_rows(plan, plan.state, k * lo, k, hi - lo),
        float64s(plan, plan.scalars, scalars, scalars + plan.n_scalars),
        t, learning_rate,
    )  # fmt: skip


@njit
def note_squares(plan, chunk, lo, hi):
    """Keep the sums of squares of a chunk: of the gradient by layer, and of the weights."""
    n, place = plan.n_layers + 1, chunk * plan.squares_row
    squares = float64s(plan, plan.squares, place, place + n)
    of_weights = 0.0
    for l in range(plan.n_layers):
        layer = layer_at(plan.layers, l)
        start = larger(layer.weights, lo)
        stop = larger(start, smaller(layer.weights + layer.n_in * layer.n_out, hi))
        of_gradient = reals(plan, plan.grad, start, stop)
        if plan.alpha == 0.0:
            squares[l] = sum_of_squares(of_gradient)
        else:
            squares[l], more = sums_of_squares(of_gradient, reals(plan, plan.w, start, stop))
            of_weights += more
    squares[n - 1] = of_weights


@njit
def add_totals(plan, value, n_rows, kept):
    """Add what a batch gave to ``plan.totals``; see ``run_batches``."""
    n = plan.n_layers + 1
    totals = float64s(plan, plan.totals, 0, 3 + n)
    for l in range(n):
        total = 0.0
        for chunk in range(plan.n_chunks):
            total += float64_at(plan.squares, chunk * plan.squares_row + l)
        if l < plan.n_layers:
            totals[4 + l] += math.sqrt(total)
        elif kept != 0.0:
            totals[1] += n_rows * (0.5 * kept * total)
    totals[0] += n_rows * value
    totals[2] += n_rows
    totals[3] += 1


@njit(entry=True)
def run_batches(plans, first_batch, last_batch, t):
    """Train on the batches ``first_batch`` to ``last_batch`` (not included) of an epoch.

    Parameters
    ----------
    plans : record array of shape (1,)
        The plan of this thread.  ``plan.rates`` has the learning rate of each step; a batch
        without weight is none.  ``plan.totals`` grows by the data term and by the penalty of each
        batch, times its number of rows; by this number; by 1; and by the norm of each layer's
        weight gradient.
    first_batch, last_batch : int
    t : int
        Number of updates made before.

    The number of updates made so far goes to ``plan.updates``.
    """
    plan = plans[0]
    plan.control = flush_subnormals()
    forget_lists(plan)
    train(plan, first_batch, last_batch, t)
    restore_subnormals(plan.control)


@njit(entry=True)
def leave_loop(plans):
    """What the end of ``run_batches`` does, which an exception skips."""
    if plans[0].control != 0:  # or the loop has never begun
        restore_subnormals(plans[0].control)


@functools.cache
def run_batches_types(dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Types of the arguments of ``run_batches`` in a precision."""
    return numba.typeof(Plan(dtype).record), numba.int64, numba.int64, numba.int64


def compile_run_batches(dtype: np.dtype[Any]) -> None:
    """Compile ``run_batches``, or load it, before it is called."""
    run_batches.compile(run_batches_types(dtype))


def train_on_batches(plans: NDArray[Any], first_batch: int, last_batch: int, t: int) -> None:
    """``run_batches``; the thread is then as before, also if a user's rule or loss raises."""
    try:
        run_batches(plans, first_batch, last_batch, t)
    except BaseException:
        leave_loop(plans)
        raise


@njit
def train(plan, first_batch, last_batch, t):
    """The loop of ``run_batches``, which leaves it also where somebody ends it early."""
    n = n_parameters_of(plan)
    n_steps = 0
    for b in range(first_batch, last_batch):
        first = b * plan.rows
        n_rows = smaller(plan.rows, plan.n_samples - first)
        total_weight = total_weight_of(plan, first, n_rows)
        if total_weight == 0.0:
            continue  # nothing to learn from
        kept = plan.alpha / total_weight
        if each_has_a_half(plan):
            call_own_half(plan.own_half, plan, first, n_rows, n_steps)
            if not barrier(plan):
                break
        pass_through(plan, first, n_rows, 1.0 / total_weight, t, True, n_steps)
        # A batch of one block has no second part.
        n_parts = plan.n_parts if n_rows > plan.loss_rows else 1
        by_member = n_parts > 1 and plan.size <= n_parts
        if by_member:
            for part in range(plan.rank, n_parts, plan.size):
                part_gradient(plan, part, n_parts, 0, n, first, n_rows, kept)
        if not barrier(plan):
            break
        value = total_loss(plan, n_rows)
        share_anew(plan, n_rows)
        t += 1
        rate = float64_at(plan.rates, n_steps)
        chunk = next_piece(plan, -1, plan.n_chunks, n_steps)
        while chunk < plan.n_chunks:
            start, stop = int64_at(plan.chunks, chunk), int64_at(plan.chunks, chunk + 1)
            if plan.piece != 0:
                # The same place for each chunk, which stays in the cache of this processor.
                plan.grad = plan.piece - start * plan.itemsize
            if not by_member:
                for part in range(n_parts):
                    part_gradient(plan, part, n_parts, start, stop, first, n_rows, kept)
            if n_parts > 1:
                more = reals(plan, plan.part_grad, start, stop)
                add_to(reals(plan, plan.grad, start, stop), more)
            note_squares(plan, chunk, start, stop)
            if plan.at_once:
                update_chunk(plan, chunk, t, rate)
            chunk = next_piece(plan, chunk, plan.n_chunks, n_steps)
        n_steps += 1
        if not barrier(plan):
            break
        if plan.rank == 0:
            int64s(plan, plan.updates, 0, 1)[0] = t
            add_totals(plan, value, n_rows, kept)
            if not plan.at_once:
                update_as_a_whole(plan, t, rate)
        if not plan.at_once and not barrier(plan):
            break


@njit
def part_gradient(plan, part, n_parts, start, stop, first, n_rows, kept):
    """Gradient by the parameters from ``start`` to ``stop``, over one part of the rows."""
    lo, hi = part_of(n_rows, plan.loss_rows, part, n_parts)
    target = plan.grad
    if part > 0:
        target, kept = plan.part_grad, 0.0  # the penalty belongs to the first
    gradient(plan, start, stop, first, lo, hi, kept, plan.w, target, False)


@njit
def update_as_a_whole(plan, t, learning_rate):
    """An update by one thread, after the whole gradient is known, within the limits."""
    n = n_parameters_of(plan)
    if plan.clip != 0:
        call_clip(plan.clip, plan.clip_fields, reals(plan, plan.grad, 0, n))
    for chunk in range(plan.n_state_chunks):
        update_chunk(plan, chunk, t, learning_rate)
    if plan.constrain != 0:
        # The derivatives of the batch have been used: their place is room for one number a unit.
        last = layer_at(plan.layers, plan.n_layers - 1)
        call_constrain(
            plan.constrain, plan.constrain_fields,
            layer_records(plan, plan.layers, 0, plan.n_layers), reals(plan, plan.w, 0, n),
            reals(plan, plan.delta, 0, last.deltas + last.n_out),
        )  # fmt: skip


def step_in_python(rule: Any, w: Any, g: Any, memory: Memory, t: int, learning_rate: float) -> None:
    """The same without the compiler, for a debugger or a coverage report."""
    k = memory.n_arrays
    for scalars, lo, hi in zip(memory.scalars, memory.chunks, memory.chunks[1:], strict=False):
        state = memory.arrays[k * lo : k * hi].reshape((k, hi - lo))
        step(rule, w[lo:hi], g[lo:hi], state, scalars[: memory.n_scalars], t, learning_rate)


@njit(entry=True)
def apply_step(plans, w, g, t, learning_rate):
    """One update of ``w`` by the gradient ``g``, for use outside of the mini-batch loop.

    The arrays are arguments, because Python takes longer to note their addresses in a plan than
    a kernel takes to update a thousand parameters.
    """
    plan = plans[0]
    plan.w, plan.grad = w.ctypes.data, g.ctypes.data
    # Nobody begins before all are there: an interruption may keep one from coming, and an update
    # is done by all or not at all.
    if not barrier(plan):
        return
    chunk = next_piece(plan, -1, plan.n_state_chunks, 0)
    while chunk < plan.n_state_chunks:
        update_chunk(plan, chunk, t, learning_rate)
        chunk = next_piece(plan, chunk, plan.n_state_chunks, 0)
