"""Keeping BLAS to one thread where its threads do harm.

OpenBLAS wakes all of its threads for operations that are far too small for them; where another
process is busy, each such operation then waits for a time slice.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any

from threadpoolctl import ThreadpoolController


@functools.cache
def _blas() -> Any:
    return ThreadpoolController().select(user_api="blas")


def one_blas_thread() -> contextlib.AbstractContextManager[Any]:
    """A block in which BLAS runs on one thread.

    The setting is one of the whole process.  Where several Python threads hold such blocks, the
    first of them decides, and the setting is back when it leaves.
    """
    return _blas().limit(limits=1)
