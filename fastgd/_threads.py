"""How many threads a piece of work gets.

As many as are worth it, at most as many as the user allows (``n_jobs``, threadpoolctl,
``OMP_NUM_THREADS``, a container's share of the processors), and together with whatever else
fastgd does in this process not more than there are: ten fits in ten threads do not start twenty.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import joblib

_lock = threading.Lock()
_users: dict[object, int] = {}  # threads in use, by who asked for them

_n_processors = functools.cache(joblib.cpu_count)


def allowed_threads(n_jobs: int | None = None) -> int:
    """The number of threads that may run at once.

    Parameters
    ----------
    n_jobs : int or None
        None: as many as there are processors for this process, and as the numerical libraries
        around may use, which is what ``threadpoolctl.threadpool_limits`` and ``OMP_NUM_THREADS``
        set.  Negative as in joblib: -1 is all processors, -2 all but one.
    """
    n_processors = _n_processors()
    if n_jobs is not None:
        wanted = n_jobs if n_jobs > 0 else n_processors + 1 + n_jobs
        return int(min(max(wanted, 1), n_processors))
    return int(min([n_processors, *_blas.allowed()]))


def threads_worth(multiplications: int, n_jobs: int | None, least: int) -> int:
    """How many threads to use for a piece of work of so many multiplications.

    ``least`` is what each thread must have to do.
    """
    wanted = multiplications // least
    return 1 if wanted < 2 else int(min(wanted, allowed_threads(n_jobs)))


@functools.cache
def _libraries() -> Any:
    import threadpoolctl  # takes milliseconds, and small fits never ask

    return threadpoolctl.ThreadpoolController()


class _Blas:
    """How many threads the numerical libraries have: numbers that belong to the whole process.

    So the first one who wants BLAS to be quiet sets them, and the last one puts them back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._quiet: set[object] = set()  # who wants it
        self._before: list[int] = []  # the numbers that the user had set
        self._limit: Any = None

    def allowed(self) -> list[int]:
        """Numbers of threads that the user allows."""
        with self._lock:
            self._restore_if_nobody_minds()
            return self._before or [library["num_threads"] for library in _libraries().info()]

    def quieten(self, who: object) -> None:
        with self._lock:
            self._restore_if_nobody_minds()
            if self._limit is None:
                self._before = [library["num_threads"] for library in _libraries().info()]
                self._limit = _libraries().limit(limits=1, user_api="blas")
            self._quiet.add(who)

    def release(self, who: object) -> None:
        self._quiet.discard(who)
        with self._lock:
            self._restore_if_nobody_minds()

    def forget_others(self) -> None:
        """A forked child has none of the threads that want something."""
        self._lock = threading.Lock()
        self._quiet.clear()

    def _restore_if_nobody_minds(self) -> None:
        if self._limit is not None and not self._quiet:
            self._limit.restore_original_limits()
            self._limit, self._before = None, []


_blas = _Blas()


@contextmanager
def quiet_blas() -> Iterator[None]:
    """Let BLAS work with one thread, in the whole process.

    The workers of a BLAS go on spinning for a tenth of a second after each product, be it of two
    vectors, on the processors that our threads would work on.
    """
    me = object()
    try:
        _blas.quieten(me)
        yield
    finally:
        _blas.release(me)


@contextmanager
def reserved(n_threads: int) -> Iterator[int]:
    """Up to ``n_threads``, the caller's own one among them, as far as fastgd has any to spare."""
    me = object()
    try:
        with _lock:
            idle = _n_processors() - sum(_users.values())
            n_threads = min(n_threads, max(1, idle)) if n_threads > 1 else 1
            _users[me] = n_threads
        yield n_threads
    finally:
        # Without the lock: an exception that comes from outside finds no gap before this.
        _users.pop(me, None)


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _lock
    _lock = threading.Lock()
    _users.clear()
    _blas.forget_others()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
