"""Which rows of a batch each member of a team takes: as many as it is fast.

Processors are not equally fast: the other hardware thread of a core may be busy, which costs the
matrix unit two thirds of its speed; some cores are made to save power.  In long steps of networks
with many weights, help at the end of a batch would cost more than it gives, because whoever takes
more rows passes over all weights once more.  So the members take as many rows as fits the time that
they took for those of the batch before.  Rows do not know of each other: who has which changes no
number (but where a sum overflows on its way through the matrix unit, in fits that diverge).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic
from numpy.typing import NDArray

from fastgd._jit import is_x86, native_address, njit
from fastgd.kernels.aligned import LINE_NUMBERS, aligned_zeros
from fastgd.kernels.parts import I64, call_at
from fastgd.kernels.plan import array_at, int64_at, int64s
from fastgd.kernels.team import part_of

# A block goes to another member if all are then done in so much of the time.
WORTH_MOVING = 0.97


def shares_of(n_blocks: int) -> NDArray[np.int64]:
    """Room for what a team knows of its shares of so many blocks.

    The cycles that each member took, in a line of the cache each; then the size of the team, and
    between which blocks the share of each member lies.
    """
    return aligned_zeros(n_blocks * LINE_NUMBERS + 2 + n_blocks, np.int64)


@intrinsic
def clock(typingctx):
    """Cycles of a clock that all processors share; 0 where there is none to read at no cost."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not is_x86():
            return ir.Constant(ir.IntType(64), 0)
        kind, name = ir.FunctionType(ir.IntType(64), []), "llvm.readcyclecounter"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])

    return types.int64(), codegen


@njit
def blocks_of(plan, n_rows):
    """Number of the blocks of rows whose losses are summed at a time, and that members share."""
    return (n_rows + plan.loss_rows - 1) // plan.loss_rows


@njit
def own_blocks(plan, shares, n_blocks):
    """The first of the blocks that belong to a member, and the first one of the next member."""
    place = n_blocks * LINE_NUMBERS
    if shares == 0 or int64_at(shares, place) != plan.size:
        return part_of(n_blocks, 1, plan.rank, plan.size)
    return int64_at(shares, place + 1 + plan.rank), int64_at(shares, place + 2 + plan.rank)


@njit
def note_cycles(plan, shares, n_blocks, started):
    """Note how long a member has worked on its share."""
    if shares != 0 and plan.rank < n_blocks:
        place = plan.rank * LINE_NUMBERS
        int64s(plan, shares, place, place + 1)[0] = clock() - started


@njit
def share_anew(plan, n_rows):
    """Share the next batch by what this one took, if it was a whole one.

    For all members to call, of which one does it, when they have done their shares and before they
    begin with the next.
    """
    if plan.shares != 0 and plan.rank == 0 and n_rows == plan.rows:
        n_blocks = blocks_of(plan, n_rows)
        call_even_out(plan.even_out, plan.shares, n_blocks, plan.size)
        if plan.half_shares != 0:
            call_even_out(plan.even_out, plan.half_shares, 2 * n_blocks, plan.size)


def _even_out(shares, n_blocks, size):
    if size == 1 or size > n_blocks:
        return
    place = n_blocks * LINE_NUMBERS
    numbers = array_at(shares, place + 2 + size, np.int64(0))
    cycles, known, bounds = numbers[:place], numbers[place : place + 1], numbers[place + 1 :]
    if known[0] != size:
        known[0] = size
        for member in range(size + 1):
            bounds[member] = n_blocks * member // size
    slowest, helper, soonest = 0, 0, np.inf
    for member in range(size):
        spent = float(cycles[member * LINE_NUMBERS])
        n_own = bounds[member + 1] - bounds[member]
        if spent > cycles[slowest * LINE_NUMBERS]:
            slowest = member
        if spent / n_own * (n_own + 1) < soonest:
            helper, soonest = member, spent / n_own * (n_own + 1)
    is_worth_it = soonest < WORTH_MOVING * cycles[slowest * LINE_NUMBERS]
    if is_worth_it and bounds[slowest + 1] - bounds[slowest] > 1:
        for member in range(slowest + 1, helper + 1):
            bounds[member] -= 1
        for member in range(helper + 1, slowest + 1):
            bounds[member] += 1


EVEN_OUT = types.void(I64, I64, I64)


@intrinsic
def call_even_out(typingctx, address, shares, n_blocks, size):
    """Move a block from the slowest member to the one that would have it done first."""
    return call_at(EVEN_OUT)


@functools.cache
def even_out_entry() -> dict[str, int]:
    """What a plan with shares needs besides; compiles the code, or loads it, on its first use."""
    address = native_address(_even_out, EVEN_OUT, f"{__name__}.even_out", ours=True)
    return {"even_out": address}
