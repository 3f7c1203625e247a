"""Arrays that begin where a cache line begins, and share none with anybody.

NumPy's begin 16 bytes into one as a rule, and then each load of a whole register touches two lines:
products of small matrices, and updates, take up to half as long again.  And what one thread writes
takes the whole line from the others, with all that they read there: a few small arrays beside each
other can cost two threads half of their time.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import addressof, c_char
from typing import Any

import numpy as np
from numpy.typing import NDArray

CACHE_LINE = 64
LINE_NUMBERS = CACHE_LINE // 8  # float64 numbers
# Processors fetch lines in pairs.
ALIGNMENT = 2 * CACHE_LINE

# Where in a page the vectors begin that a step walks through side by side.  A load waits for a
# store before it if the last bits of their addresses are the same: where two of these vectors begin
# within a few lines of the same place, steps of small networks take up to three times as long.
PAGE = 4096
PARAMETERS, GRADIENT, STATE = 0, 1024, 2048


def address(array: NDArray[Any]) -> int:
    """Where the numbers of a contiguous array lie; 0 if there are none."""
    if not array.flags.c_contiguous:
        raise ValueError(f"The array must be C-contiguous, but has strides {array.strides}.")
    if array.size == 0:
        return 0
    # ``ctypes.data`` takes twice as long, and is needed for what is only to be read.
    data = array.data
    return array.ctypes.data if data.readonly else addressof(c_char.from_buffer(data))


def whole_lines(n: int) -> int:
    """``n`` float64 numbers, rounded up to whole lines of the cache."""
    return -(-n // LINE_NUMBERS) * LINE_NUMBERS


def aligned_empty(n: int, dtype: Any, place: int | None = None) -> NDArray[Any]:
    """``np.empty(n, dtype)`` on cache lines of its own, at a place of a page or anywhere.

    Views of it have it as their base, as those of an array that owns its memory do.
    """
    return _aligned(np.empty, n, np.dtype(dtype), place)


def aligned_zeros(n: int, dtype: Any, place: int | None = None) -> NDArray[Any]:
    """``np.zeros(n, dtype)`` on cache lines of its own, at a place of a page or anywhere."""
    return _aligned(np.zeros, n, np.dtype(dtype), place)


def _aligned(
    make: Callable[..., NDArray[Any]], n: int, dtype: np.dtype[Any], place: int | None
) -> NDArray[Any]:
    size = n * dtype.itemsize
    period = ALIGNMENT if place is None else PAGE
    room = make(size + period + ALIGNMENT, np.uint8)
    skipped = ((place or 0) - address(room)) % period
    # A memoryview stands between, or NumPy would name ``room`` as the base of all views.
    return np.frombuffer(room.data[skipped:], dtype, n)


def aligned_copy(array: NDArray[Any], dtype: Any = None, place: int | None = None) -> NDArray[Any]:
    """A copy of a vector on cache lines of its own, perhaps of another dtype."""
    copy = aligned_empty(array.size, array.dtype if dtype is None else dtype, place)
    copy[:] = array
    return copy
