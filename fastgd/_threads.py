"""How many threads BLAS may use, decided by the size of the work.

OpenBLAS uses all of its threads for every product above 64³ multiplications, where waking them
costs more than it brings, and where a second busy process makes each product wait for a time
slice.  So products that are not large run on one thread.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

from threadpoolctl import ThreadpoolController

# Multiplications in one product: below the first BLAS keeps to one thread by itself, below the
# second we make it.
ALONE_ANYWAY = 64**3
WORTH_THREADS = 4_000_000


@functools.cache
def _blas() -> Any:
    return ThreadpoolController().select(user_api="blas")


class _OneThread:
    """A limit that several Python threads can hold at once; the last one to leave lifts it.

    The setting is one of the whole process: without the count, a thread that leaves would give
    back, or keep for ever, what another thread had set.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._limiter: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._limiter = _blas().limit(limits=1)
            self._holders += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                self._limiter.restore_original_limits()


_one_thread = _OneThread()


@contextlib.contextmanager
def threads_for(multiplications: int) -> Iterator[None]:
    """Run a block whose largest matrix product has this many multiplications."""
    if ALONE_ANYWAY < multiplications < WORTH_THREADS:
        with _one_thread:
            yield
    else:
        yield
