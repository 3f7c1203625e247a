"""Several threads that run one kernel together on shared arrays.

Every member runs the same kernel with its own rank; ``barrier`` lets nobody on before all have
come, ``next_piece`` deals out numbered pieces of work.  The members are ordinary Python threads
which leave the GIL inside the kernel, made for one call and gone after it: nothing lives on that a
fork could break, that a second user could collide with, or that would spin while nobody trains.
(Numba's own layers do one of these each: a forked child of ``omp`` dies, two users of
``workqueue`` abort the process, and its launch costs 66 µs.)
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from fastgd._jit import njit
from fastgd.kernels.plan import Plan, smaller

T = TypeVar("T")

# Places of the counters: each has a cache line of its own, or the members would wait for lines.
ARRIVED, CLAIMED, ABANDONED, N_COUNTERS = 16, 32, 48, 64

# Then a waiting member lets other threads have its processor, which may be the one that it
# waits for.  (Some 20 µs.)
PATIENCE = 2_000

if sys.platform == "win32":  # pragma: no cover
    _yield_processor = ctypes.windll.kernel32.SwitchToThread
else:
    _LIBC = ctypes.CDLL(None)
    _yield_processor = _LIBC.sched_yield
binding.add_symbol("fastgd_yield_processor", ctypes.cast(_yield_processor, ctypes.c_void_p).value)


def _counter(builder: Any, counters: Any, index: Any) -> Any:
    return builder.gep(builder.inttoptr(counters, ir.IntType(64).as_pointer()), [index])


@intrinsic
def _add(typingctx, counters, place, amount):
    """Add to a counter, as one step for all threads; what it was before."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _counter(builder, args[0], args[1])
        return builder.atomic_rmw("add", pointer, args[2], "seq_cst")

    return types.int64(types.intp, types.intp, types.int64), codegen


@intrinsic
def _read(typingctx, counters, place):
    """A counter as the other threads left it."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _counter(builder, args[0], args[1])
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(types.intp, types.intp), codegen


@intrinsic
def _yield(typingctx):
    """Let another thread have the processor."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        name = "fastgd_yield_processor"
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _pause(typingctx):
    """Tell the processor that this is a waiting loop."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if binding.get_process_triple().startswith(("x86_64", "i386", "i686")):
            kind, name = ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


@njit
def barrier(plan):
    """Wait until every member has come here; False: the team was abandoned, give up."""
    if plan.size == 1:
        return True
    number = _add(plan.counters, ARRIVED, 1)
    enough = (number // plan.size + 1) * plan.size
    turns = 0
    while _read(plan.counters, ARRIVED) < enough:
        _pause()
        turns += 1
        if turns % PATIENCE == 0:
            if _read(plan.counters, ABANDONED) != 0:
                return False
            _yield()
    return True


@njit
def next_piece(plan, piece, n_pieces, round):
    """The number of a piece of work that nobody has yet; ``n_pieces`` or more: all are taken.

    ``piece`` is the one that the member had before, -1 at first.  Each member goes on until all
    are taken, in each round, which are counted from 0; between two rounds there is a barrier.
    """
    if plan.size == 1:
        return piece + 1
    return _add(plan.counters, CLAIMED, 1) - round * (n_pieces + plan.size)


@njit
def share(plan, n, block):
    """The part of ``range(n)`` that belongs to a member: whole blocks."""
    blocks = (n + block - 1) // block
    lo, hi = blocks * plan.rank // plan.size, blocks * (plan.rank + 1) // plan.size
    return smaller(lo * block, n), smaller(hi * block, n)


def _other_processors() -> set[int]:
    """All that this process may use but the one that it runs on; empty if the system can't tell.

    A thread often begins on its parent's processor, and it takes the system some ten
    milliseconds to find that they would both do better apart: longer than many a slice.
    """
    if not hasattr(os, "sched_setaffinity"):
        return set()
    return os.sched_getaffinity(0) - {_LIBC.sched_getcpu()}


def together(kernel: Callable[..., T], plans: list[Plan], size: int, *arguments: Any) -> T:
    """Let a team of ``size`` threads run ``kernel(plan.record, *arguments)``, each with its plan.

    Returns what this thread's call returned, the one with the first plan.

    Raises
    ------
    BaseException
        What was raised in any of the threads; the others then stop at their next barrier.
    """
    if size == 1:
        plans[0].set(rank=0, size=1)
        return kernel(plans[0].record, *arguments)
    counters = np.zeros(N_COUNTERS, np.int64)
    for rank, plan in enumerate(plans[:size]):
        plan.set(rank=rank, size=size, counters=counters)
    failures: list[BaseException] = []
    processors = _other_processors()

    def run(rank: int) -> Any:
        try:
            if rank > 0 and processors:
                with contextlib.suppress(OSError):  # not allowed everywhere, nor needed
                    os.sched_setaffinity(0, processors)  # of this thread, which ends with the call
            return kernel(plans[rank].record, *arguments)
        except BaseException as error:
            counters[ABANDONED] = 1
            failures.append(error)

    helpers = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(1, size)]
    started = []
    result, is_complete = None, False
    try:
        for helper in helpers:
            helper.start()
            started.append(helper)
        is_complete = True
        result = run(0)
    except BaseException as error:
        counters[ABANDONED] = 1
        if is_complete or not isinstance(error, RuntimeError):
            raise
    finally:
        for helper in started:
            helper.join()
    if not is_complete:
        # No thread to be had.  Nobody got past the first barrier, so nothing is half done.
        return together(kernel, plans, 1, *arguments)
    if failures:
        raise failures[0]
    return result  # type: ignore[return-value]
