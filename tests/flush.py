"""Products and softmax on arrays that end, or begin, where memory ends: a touch beyond is fatal.

Run as a script by ``test_linalg``.  Numbers around an array show only what is written there; what
is read, and not used, shows only where nobody may read.
"""

import ctypes
import itertools
import mmap
import sys

import numba
import numpy as np

from fastgd._jit import compiler_flags
from fastgd.kernels.gemm import (
    DEPTH,
    FAR_BYTES,
    OFTEN,
    PACKED_ROWS,
    TILE_ROWS,
    gemm,
    gemm_by_panels,
    product_entries,
)
from fastgd.kernels.losses import narrow_softmax
from fastgd.kernels.packing import pack_panels
from fastgd.kernels.plan import Plan
from fastgd.kernels.tiles import HAS_TILES
from fastgd.kernels.vectors import VECTOR_BYTES

PAGE, NO_ACCESS = mmap.PAGESIZE, 0
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Room:
    """Memory between two pages that nobody may touch."""

    def __init__(self, n_bytes=2**24):
        self._n_bytes = n_bytes
        self._map = mmap.mmap(-1, n_bytes + 2 * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        for page in (start, start + PAGE + n_bytes):
            if LIBC.mprotect(page, PAGE, NO_ACCESS) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")

    def array(self, size, dtype, at_end):
        """An array that is flush with the end of the room, or with its beginning."""
        n_bytes = size * np.dtype(dtype).itemsize
        first = PAGE + (self._n_bytes - n_bytes if at_end else 0)
        return np.frombuffer(self._map, dtype, size, first)


@numba.njit
def call_gemm(plans, m, n, k, a, ra, ca, b, rb, cb, beta, d, rd, c, rc):
    gemm(plans[0], m, n, k, a, ra, ca, b, rb, cb, beta, d, rd, c, rc)


@numba.njit
def call_by_panels(plans, m, n, k, a, b, panels, c):
    plan = plans[0]
    pack_panels(b, n, k, n, panels, k, plan.real)
    gemm_by_panels(plan, m, n, k, a, 1, m, panels, k, 1.0, c, n, c, n)


def address(array):
    return array.__array_interface__["data"][0]


def plan_in(rooms, k, dtype, at_end):
    """The plan of a product, whose buffers are flush as well."""
    entries = product_entries(dtype, k, with_zeros=HAS_TILES)
    for name, old in entries.items():
        if isinstance(old, np.ndarray):
            entries[name] = rooms[name].array(old.size, old.dtype, at_end)
    return Plan(dtype).set(**entries)


def check_product(
    rooms, rng, m, n, k, ta, tb, gap, dtype, at_end, densities=(1, 1), d_is_c=True
):  # fmt: skip
    """One product of small integers, which are exact; ``gap`` numbers lie between all rows."""

    def matrix(name, rows, columns, density=1):
        step = columns + gap
        flat = rooms[name].array((rows - 1) * step + columns, dtype, at_end)
        strides = (step * flat.itemsize, flat.itemsize)
        view = np.lib.stride_tricks.as_strided(flat, (rows, columns), strides)
        view[:] = rng.integers(-8, 9, view.shape) * (rng.random(view.shape) < density)
        return view, step

    a, a_step = matrix("a", *((k, m) if ta else (m, k)), densities[0])
    b, b_step = matrix("b", *((n, k) if tb else (k, n)), densities[1])
    c, c_step = matrix("c", m, n)
    d, d_step = (c, c_step) if d_is_c else matrix("d", m, n)
    expected = (a.T if ta else a) @ (b.T if tb else b) + d
    plan = plan_in(rooms, k, dtype, at_end)
    call_gemm(
        plan.record, m, n, k, address(a), *((1, a_step) if ta else (a_step, 1)),
        address(b), *((1, b_step) if tb else (b_step, 1)), 1.0, address(d), d_step,
        address(c), c_step,
    )  # fmt: skip
    np.testing.assert_array_equal(c, expected)


def check_panels(rooms, rng, m, n, k, dtype, at_end, density=1):
    """Panels are as long as whole registers; their rows are all that is read."""
    two = 2 * VECTOR_BYTES // np.dtype(dtype).itemsize
    a, b, c, panels = (
        rooms[name].array(size, dtype, at_end)
        for name, size in (("a", k * m), ("b", k * n), ("c", m * n), ("d", k * (n + -n % two)))
    )
    a[:], b[:], c[:] = (rng.integers(-8, 9, array.size) for array in (a, b, c))
    b *= rng.random(b.size) < density
    expected = a.reshape(k, m).T @ b.reshape(k, n) + c.reshape(m, n)
    plan = plan_in(rooms, k, dtype, at_end)
    call_by_panels(plan.record, m, n, k, *map(address, (a, b, panels, c)))
    np.testing.assert_array_equal(c.reshape(m, n), expected)


def check_softmax(rooms, rng, room, n_classes, n_rows, dtype, at_end):
    """Derivatives of some rows, the last of which ends where memory ends."""
    kernel = numba.njit(**compiler_flags())(narrow_softmax(room, True))
    run = numba.njit(lambda z, y, weight, n, k, delta: kernel(0, z, y, weight, n, k, delta))
    for k, n in itertools.product(n_classes, n_rows):
        z, delta = (rooms[name].array(n * k, dtype, at_end) for name in "ac")
        y, weight = rooms["b"].array(n, np.int64, at_end), rooms["d"].array(n, dtype, at_end)
        z[:], y[:], weight[:] = rng.normal(size=z.size), rng.integers(0, k, n), 1
        run(z, y, weight, n, k, delta)
        e = np.exp(z.reshape(n, k).astype(np.float64))
        expected = e / e.sum(axis=1, keepdims=True) - np.eye(k)[y]
        np.testing.assert_allclose(delta.reshape(n, k), expected, atol=8 * np.finfo(dtype).eps)


def main():
    rng = np.random.default_rng(0)
    names = ("a", "b", "c", "d", "panel", "packed", "masks", "sums")
    rooms = {name: Room() for name in names}
    tile, block = TILE_ROWS, PACKED_ROWS
    few = [(m, n, k) for m in (1, 2, 5, 8, 9, 13) for n in range(1, 36) for k in (1, 2, 9)]
    many = [(m, n, 11) for m in (OFTEN, OFTEN + 5) for n in (63, 65, 128, 300)]
    many += [(m, OFTEN, 40) for m in (tile + 1, block - 1, block, block + 2)]
    many += [(block + 2, OFTEN + 1, DEPTH + 6), (1, 149, 200)]
    for dtype, at_end in itertools.product((np.float32, np.float64), (False, True)):
        for ta, tb in itertools.product((False, True), (False, True)):
            for sizes in few:
                check_product(rooms, rng, *sizes, ta, tb, 1, dtype, at_end)
            # Rows far apart are packed, and so are those that crowd the first-level cache.
            far = FAR_BYTES // np.dtype(dtype).itemsize + 1
            for (m, n, k), gap in itertools.product(many, (0, far)):
                check_product(rooms, rng, m, n, k, ta, tb, gap, dtype, at_end)
            # Zeros of either factor are left out.
            for size, gap, k in itertools.product((8, 67, 133), (0, far), (40, 65, DEPTH + 70)):
                for d_is_c in (True, False):
                    kind = ta, tb, gap, dtype, at_end
                    check_product(rooms, rng, size, 121, k, *kind, (0.2, 1), d_is_c)
                    check_product(rooms, rng, 121, size + 9, k, *kind, (1, 0.2), d_is_c)
        for n, k in itertools.product((2, 15, 31, 33, 300), (1, 9, DEPTH + 6)):
            if HAS_TILES:
                check_panels(rooms, rng, OFTEN + 5, n, k, dtype, at_end)
                check_panels(rooms, rng, 147, n, k, dtype, at_end, density=0.4)
        for n, k in itertools.product((1017, 1023, 1031), (33, 65)):
            if HAS_TILES:
                check_panels(rooms, rng, 147, n, k, dtype, at_end, density=0.4)
        for room in (4, 8, 16, 32):
            classes = range(room // 2 + 1, room + 1)
            check_softmax(rooms, rng, room, classes, (1, 2, 3, 9), dtype, at_end)


if __name__ == "__main__":
    sys.exit(main())
