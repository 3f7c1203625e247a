"""Several threads that run one kernel together on shared arrays.

Every member runs the same kernel with its own rank; ``barrier`` lets nobody on before all have
come, ``next_piece`` deals out numbered pieces of work.  The members are ordinary Python threads
which leave the GIL inside the kernel, made for one call or one fit and gone after it: nothing lives
on that a fork could break, that a second user could collide with, or that would spin while nobody
trains.
(Numba's own layers do one of these each: a forked child of ``omp`` dies, two users of
``workqueue`` abort the process, and its launch costs 66 µs.)
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import functools
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from fastgd._jit import is_x86, native_address, njit
from fastgd.kernels.aligned import CACHE_LINE
from fastgd.kernels.parts import I64, call_at
from fastgd.kernels.plan import Plan, smaller

T = TypeVar("T")
Tasks = queue.SimpleQueue[Callable[[], None] | None]

# Places of the counters: each has a cache line of its own, or the members would wait for lines,
# and a second one, because processors fetch them in pairs.  From CLAIMED on each member has one for
# each kind of pieces that are dealt out.
LINE = 16
CHUNKS, ROWS, HALVES = KINDS = 0, 1, 2
ARRIVED, ABANDONED, CLAIMED = LINE, 2 * LINE, 3 * LINE

# A longer part of the weights has left the first-level cache again before it is updated; to fetch
# it twice takes as long as to wait for its lines.  (5 % of a step slower without: 51,000 bytes;
# faster: 67,000, and 100,000 by 10 %.)
MOST_BYTES_TO_CLAIM = 60_000

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
        if is_x86():
            kind, name = ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


# A kernel calls these two by address: most networks are too small for a team, and nobody waits for
# the code of what is never called.


def _wait(counters, size):
    arrived = _add(counters, ARRIVED, 1)
    enough = (arrived // size + 1) * size
    turns = 0
    while _read(counters, ARRIVED) < enough:
        _pause()
        turns += 1
        if turns % PATIENCE == 0:
            if _read(counters, ABANDONED) != 0:
                return False
            _yield()
    return True


def _take(counters, size, rank, piece, n_pieces, round):
    # The owner of a piece is the last member whose first one does not come after it.
    owner = rank if piece < 0 else ((piece + 1) * size - 1) // n_pieces
    while True:
        first = n_pieces * owner // size
        n_own = n_pieces * (owner + 1) // size - first
        # In each round every member comes once to each owner in vain.
        before = round * (n_own + size)
        place = _add(counters, CLAIMED + LINE * owner, 1) - before
        if place < n_own:
            return first + place
        owner = (owner + 1) % size
        if owner == rank:
            return n_pieces


WAIT, TAKE = types.boolean(I64, I64), I64(I64, I64, I64, I64, I64, I64)


@functools.cache
def team_entries() -> dict[str, int]:
    """What the plans of a team need; compiles the code, or loads it, on its first use."""
    return {
        "wait": native_address(_wait, WAIT, f"{__name__}.wait", ours=True),
        "take": native_address(_take, TAKE, f"{__name__}.take", ours=True),
    }


@intrinsic
def _call_wait(typingctx, address, counters, size):
    return call_at(WAIT)


@intrinsic
def _call_take(typingctx, address, counters, size, rank, piece, n_pieces, round):
    return call_at(TAKE)


@njit
def barrier(plan):
    """Wait until every member has come here; False: the team was abandoned, give up."""
    return plan.size == 1 or _call_wait(plan.wait, plan.counters, plan.size)


@njit
def next_piece(plan, piece, n_pieces, round, kind=CHUNKS):
    """The number of a piece of work that nobody has yet; ``n_pieces`` or more: all are taken.

    ``piece`` is the one that the member had before, -1 at first.  Each member goes on until all
    are taken, in each round, which are counted from 0; between two rounds there is a barrier.  The
    number of pieces of a kind is the same in all rounds.

    A member has its own pieces, the same in each round, so that what belongs to them stays in the
    cache of its processor; when it has done them, it helps the others.
    """
    if plan.size == 1:
        return piece + 1
    counters = plan.counters + 8 * LINE * plan.size * kind
    return _call_take(plan.take, counters, plan.size, plan.rank, piece, n_pieces, round)


@njit
def share(plan, n, block):
    """The part of ``range(n)`` that belongs to a member: whole blocks."""
    return part_of(n, block, plan.rank, plan.size)


@njit
def part_of(n, block, part, n_parts):
    """One of some parts of ``range(n)``, of whole blocks, as equal as can be."""
    blocks = (n + block - 1) // block
    lo, hi = blocks * part // n_parts, blocks * (part + 1) // n_parts
    return smaller(lo * block, n), smaller(hi * block, n)


@njit
def most_or_rest(lo, hi, block, piece):
    """Three quarters of some rows, of whole blocks, for an even number of a piece; else the rest.

    The rest is what others can help with whose processors are faster, or less busy; of fewer than
    four blocks there is none.
    """
    blocks = (hi - lo + block - 1) // block
    cut = smaller(lo + (blocks - blocks // 4) * block, hi)
    return (lo, cut) if piece % 2 == 0 else (cut, hi)


@intrinsic
def _write_again(typingctx, address):
    """Store the 8 bytes at an address as they are."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        # Atomic, or the compiler would see that nothing changes.
        builder.store_atomic(builder.load_atomic(pointer, "monotonic", 8), pointer, "monotonic", 8)
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@njit
def claim(plan, start, stop):
    """Take cache lines from the processors that have read them, before they are written to.

    Nobody else writes between ``start`` and ``stop``; of each line that begins there, the first
    8 bytes are written, if the part is short enough.
    A store to such a line waits until all others have given it up, and the next store waits behind
    it, 13 ns each among the instructions of an update; here they wait together, 4 ns each.
    (Instructions that prefetch for writing do nothing for a line that is there to be read.)
    """
    if plan.size > 1 and stop - start <= MOST_BYTES_TO_CLAIM:
        first = (start + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE
        for line in range(first, stop - 7, CACHE_LINE):
            _write_again(line)


class Helpers:
    """Threads that wait for work, to be used in a ``with`` statement, after which they end.

    A thread takes some tenths of a millisecond to start, as long as an epoch of a small network.

    An interruption may come between any two lines of this thread's, and must neither leave a thread
    behind nor one waiting.  So all that is shared with a helper is the queue of its tasks, one call
    of C; ``threading.Thread`` and ``Event`` have locks that an interruption leaves locked.
    """

    def __init__(self) -> None:
        self._queues: list[Tasks] = []
        self._process = os.getpid()

    def __enter__(self) -> Helpers:
        return self

    def __exit__(self, *exception: Any) -> None:
        interruptions: list[BaseException] = []
        _in_any_case(self._end, interruptions)
        if interruptions and exception[0] is None:
            raise interruptions[0]

    def __del__(self) -> None:
        self._end()  # where a second interruption kept ``__exit__`` from it

    def _end(self) -> None:
        while self._queues:
            self._queues[-1].put(None)
            self._queues.pop()

    def take(self, number: int) -> list[Tasks]:
        """The queues of so many of them; none if the system has no more threads."""
        if self._process != os.getpid():
            # A fork came since, and a child has the thread that forked alone.
            self._queues, self._process = [], os.getpid()
        before = len(self._queues)
        while len(self._queues) < number:
            tasks: Tasks = queue.SimpleQueue()
            self._queues.append(tasks)
            try:
                _thread.start_new_thread(_work, (tasks,))
            except RuntimeError:
                self._queues.pop()
                return []
        if number > before:
            _move_away(self._queues[before:])
        return self._queues[:number]


def _work(tasks: Tasks) -> None:
    """Do one task after the other, until it is None."""
    while (task := tasks.get()) is not None:
        task()
        del task  # or the arrays behind it would live until the next one


def _wait_for(tasks: Tasks) -> None:
    """Until all that was in the queue is done."""
    reached: queue.SimpleQueue[None] = queue.SimpleQueue()
    tasks.put(functools.partial(reached.put, None))
    reached.get()


def _move_away(helpers: list[Tasks]) -> None:
    """Wait until new threads are on processors where this one is not.

    They begin on this one's, and if it went to work at once would not get it for milliseconds.
    """
    usual, own = _processors()
    if own:
        for tasks in helpers:
            tasks.put(functools.partial(_restrict, 0, usual - own))
            _wait_for(tasks)


def _in_any_case(act: Callable[[], None], interruptions: list[BaseException]) -> None:
    """Call ``act``, which may be called again, until no interruption kept it from its end."""
    while True:
        try:
            return act()
        except BaseException as interruption:
            interruptions.append(interruption)


def _restrict(thread: int, processors: set[int]) -> None:
    """Let a thread, or with 0 the calling one, run on these processors alone."""
    with contextlib.suppress(OSError):  # not allowed everywhere, nor needed
        os.sched_setaffinity(thread, processors)


def _processors() -> tuple[set[int], set[int]]:
    """Those that this thread may use, and the one it is on; empty if the system can't tell.

    The system takes some milliseconds to find out that two threads which never sleep would do
    better on two processors: longer than many a slice.  And one that wakes up may be put where a
    helper, which never sleeps either, already is.  So a team keeps its first member where it is,
    and the others away from there.
    """
    if not hasattr(os, "sched_getaffinity"):
        return set(), set()
    usual = os.sched_getaffinity(0)
    return usual, usual & {_LIBC.sched_getcpu()} if len(usual) > 1 else set()


def together(
    kernel: Callable[..., T],
    plans: list[Plan],
    size: int,
    *arguments: Any,
    helpers: Helpers | None = None,
) -> T:
    """Let a team of ``size`` threads run ``kernel(plan.record, *arguments)``, each with its plan.

    Returns what this thread's call returned, the one with the first plan.  The others are
    ``helpers``, or threads for this call.

    Raises
    ------
    BaseException
        What was raised in any of the threads; the others then stop at their next barrier.
    """
    if size > 1 and helpers is None:
        with Helpers() as helpers:
            return together(kernel, plans, size, *arguments, helpers=helpers)
    members = helpers.take(size - 1) if helpers is not None else []
    if not members:
        plans[0].set(rank=0, size=1)
        return kernel(plans[0].record, *arguments)
    counters = np.zeros(CLAIMED + len(KINDS) * LINE * size, np.int64)
    for rank, plan in enumerate(plans[:size]):
        plan.set(rank=rank, size=size, counters=counters, **team_entries())
    failures: list[BaseException] = []
    usual, own = _processors()
    first = threading.get_native_id()

    def run(rank: int) -> Any:
        try:
            # The first helper sees to the first member, too: no signal interrupts a helper.
            if rank > 0 and own:
                _restrict(0, usual - own)
            if rank == 1 and own:
                _restrict(first, own)
            return kernel(plans[rank].record, *arguments)
        except BaseException as error:
            counters[ABANDONED] = 1
            failures.append(error)
        finally:
            if rank == 1 and own:
                _restrict(first, usual)

    result = None
    try:
        for rank, member in enumerate(members, 1):
            member.put(functools.partial(run, rank))
        result = run(0)
    except BaseException as error:  # an interruption, from outside of the kernel
        failures.append(error)
    if failures:
        counters[ABANDONED] = 1
    for member in members:
        _in_any_case(functools.partial(_wait_for, member), failures)
    try:
        if failures:
            raise failures[0]
        return result  # type: ignore[return-value]
    finally:
        failures.clear()  # or what a traceback holds would hold the traceback
