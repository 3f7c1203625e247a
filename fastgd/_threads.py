"""How many threads a piece of work gets.

As many as are worth it, at most as many as the user allows (``n_jobs``, threadpoolctl,
``OMP_NUM_THREADS``, a container's share of the processors), and together with whatever else
fastgd does in this process not more than there are: ten fits in ten threads do not start twenty.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_users: dict[object, int] = {}  # threads in use, by who asked for them


@functools.cache
def _n_processors() -> int:
    import joblib  # which takes long to import, and who only compiles has no use for it

    return int(joblib.cpu_count())


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
    _put_back()  # should an interruption have prevented it
    libraries = _libraries().lib_controllers
    return int(min([n_processors, *(_before.get(one, one.num_threads) for one in libraries)]))


def threads_worth(multiplications: int, n_jobs: int | None, least: int) -> int:
    """How many threads to use for a piece of work of so many multiplications.

    ``least`` is what each thread must have to do.
    """
    wanted = multiplications // least
    return 1 if wanted < 2 else int(min(wanted, allowed_threads(n_jobs)))


def _libraries() -> Any:
    return _libraries_now("sklearn" in sys.modules)  # which brings a library of its own


@functools.cache
def _libraries_now(with_sklearn: bool) -> Any:
    import scipy.linalg  # noqa: F401  so that its BLAS is among them, whoever imports it later
    import threadpoolctl  # takes milliseconds, and small fits never ask

    return threadpoolctl.ThreadpoolController()


# How many threads a BLAS has is a number of the whole process.  The first one who wants it to be
# quiet changes it, the last one puts it back.  (A limit of threadpoolctl's own would put back what
# it found, whoever else wants it otherwise by then, and the numbers of OpenMP with it.)
_blas_lock = threading.RLock()
_quiet: set[object] = set()  # who wants it
_before: dict[Any, int] = {}  # the number of each library that was changed


@contextmanager
def quiet_blas() -> Iterator[None]:
    """Let BLAS work with one thread, in the whole process.

    The workers of a BLAS go on spinning for a tenth of a second after each product, be it of two
    vectors, on the processors that our threads would work on.
    """
    me = object()
    try:
        with _blas_lock:
            _put_back()
            _quiet.add(me)
            for library in _libraries().lib_controllers:
                if library.user_api == "blas" and library not in _before:
                    # Noted before it is changed: an interruption may come in between.
                    _before[library] = library.num_threads
                    library.set_num_threads(1)
        yield
    finally:
        _quiet.discard(me)
        _put_back()


def _put_back() -> None:
    """Give the libraries their threads again, if nobody minds, and nobody else has changed them."""
    with _blas_lock:
        if _quiet:
            return
        for library, number in list(_before.items()):
            if library.num_threads == 1:
                library.set_num_threads(number)
        _before.clear()


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
    global _lock, _blas_lock
    _lock, _blas_lock = threading.Lock(), threading.RLock()
    _users.clear()
    _quiet.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
