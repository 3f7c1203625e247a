"""Memory that ends the process when somebody reads or writes beyond an array.

Kernels work with addresses, and no array tells them where it ends.  Here each array is followed,
or preceded, by a page that nobody may touch, and begins as NaN where it may begin as anything.
"""

from __future__ import annotations

import ctypes
import mmap
from contextlib import contextmanager

import numpy as np
import pytest

from fastgd.kernels import aligned, curvature
from fastgd.neural_network import epochs, prediction
from fastgd.solvers import objective

PAGE = mmap.PAGESIZE
FORBIDDEN = 0  # PROT_NONE
# Of what Python code allocates for kernels besides the aligned arrays.
MODULES = (curvature, epochs, prediction, objective)


def _room(n_bytes, alignment, behind):
    """Writable bytes, between pages that may not be touched; the nearer one is behind them or not.

    As near behind as an address that is a multiple of ``alignment`` allows.
    """
    n_pages = -(-n_bytes // PAGE)
    room = mmap.mmap(-1, (n_pages + 2) * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(room))
    for page in (0, n_pages + 1):
        place = ctypes.c_void_p(address + page * PAGE)
        if ctypes.CDLL(None).mprotect(place, ctypes.c_size_t(PAGE), FORBIDDEN) != 0:
            raise NotImplementedError("this system protects no memory")
    start = PAGE
    if behind:
        start = (PAGE * (n_pages + 1) - n_bytes) // alignment * alignment
    return memoryview(room)[start : start + n_bytes]


def guarded_empty(shape, dtype=float, *, alignment=1, behind=True):
    """``np.empty``, guarded; the numbers are NaN or -1."""
    dtype = np.dtype(dtype)
    n = int(np.prod(shape))
    if n == 0:
        return np.empty(shape, dtype)
    room = _room(n * dtype.itemsize, max(alignment, dtype.alignment), behind)
    array = np.frombuffer(room, dtype)
    array.view(np.uint8)[:] = 255
    return array if np.ndim(shape) == 0 else array.reshape(shape)


def guarded(array, behind=True):
    """A guarded copy."""
    copy = guarded_empty(array.shape, array.dtype, behind=behind)
    copy[...] = array
    return copy


class _Guarding:
    """NumPy with other arrays."""

    def __init__(self, behind):
        self._behind = behind

    def __getattr__(self, name):
        return getattr(np, name)

    def empty(self, shape, dtype=float):
        return guarded_empty(shape, dtype, behind=self._behind)


@contextmanager
def guarded_buffers(behind):
    """All that the package allocates for kernels is guarded."""

    def make_aligned(make, n, dtype, place):
        array = guarded_empty(n, dtype, alignment=aligned.CACHE_LINE, behind=behind)
        if make is np.zeros:
            array.view(np.uint8)[:] = 0
        return array

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aligned, "_aligned", make_aligned)
        for module in MODULES:
            patch.setattr(module, "np", _Guarding(behind))
        yield
