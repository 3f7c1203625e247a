"""What the machine can do: matrix products of each shape, and traffic at each working set.

The floor of a training step is the time of its matrix products at the best rate that any library
reaches at their shapes, plus the time of the update's bytes at the bandwidth of a triad
(STREAM's ``a = b + s · c``) whose arrays take as much memory.  Both are measured in the same
run as the training.  Activations, losses and gathered rows are not in it.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from bench import peers
from bench.cells import Cell
from bench.own_product import own_product
from bench.pairing import PAUSE_SECONDS, THREADS

Array = NDArray[Any]
Run = tuple[Callable[[], Any], int]
Product = Callable[[Array, Array, Array], Run]

# A single call counts, the fastest of some windows: an average would have in it what disturbs.
WINDOWS, WINDOW_SECONDS = 3, 0.01
REPEATS = 64  # of a small product within a call, so that Python costs nothing

# Bytes that an update moves, in arrays of the parameters' size: reads and writes.
UPDATE_ARRAYS = {"sgd": 3, "adam": 7}


def repeats(a: Array, b: Array) -> int:
    """How many products of a shape one call does."""
    return int(np.clip(2 * 10**7 // (a.size * b.shape[1]), 1, REPEATS))


def numpy_product(a: Array, b: Array, c: Array) -> Run:
    """NumPy's BLAS."""
    number = repeats(a, b)
    many, out = np.broadcast_to(a, (number, *a.shape)), np.empty((number, *c.shape), c.dtype)
    return lambda: np.matmul(many, b, out=out), number


def torch_product(a: Array, b: Array, c: Array) -> Run:
    """PyTorch's BLAS."""
    torch = peers.module("PyTorch").torch
    a, b, c = (torch.from_numpy(x) for x in (a, b, c))
    return lambda: torch.mm(a, b, out=c), 1


def jax_product(a: Array, b: Array, c: Array) -> Run:
    """XLA's products, one after the other in a compiled loop."""
    jax, number = peers.module("JAX").jax, repeats(a, b)
    # The operands lie in memory as they do here.
    a_stored, b_stored = (x if x.flags.c_contiguous else x.T for x in (a, b))
    a_turned, b_turned = (not x.flags.c_contiguous for x in (a, b))

    def products(a: Any, b: Any) -> Any:
        right = b.T if b_turned else b
        return jax.lax.map(lambda left: (left.T if a_turned else left) @ right, a)

    with jax.enable_x64(a.dtype == np.float64):
        many = jax.numpy.asarray(np.repeat(a_stored[np.newaxis], number, axis=0))
        b_stored = jax.numpy.asarray(b_stored)
        compiled = jax.jit(products).lower(many, b_stored).compile()
    return lambda: compiled(many, b_stored).block_until_ready(), number


def fastgd_product(a: Array, b: Array, c: Array) -> Run:
    """fastgd's own tiles."""
    # So many that the start of a thread is nothing beside them.
    number = max(1, 10**9 // (a.size * b.shape[1]))
    return own_product(a, b, c, number), number


# A library joins with a function of the operands and the result that returns a run, and the
# number of products that it does.
PRODUCTS: list[Product] = [numpy_product, fastgd_product]
if not isinstance(peers.module("PyTorch"), str):
    PRODUCTS.append(torch_product)
if not isinstance(peers.module("JAX"), str):
    PRODUCTS.append(jax_product)


@functools.cache
def product_seconds(m: int, k: int, n: int, transposed: str, dtype: str) -> float:
    """Seconds of an (m, k) by (k, n) product at the best rate of any library, all threads.

    ``transposed`` names the operands, "a", "b" or neither, that lie in memory transposed.
    """
    rng = np.random.RandomState(0)
    a, b = (
        rng.normal(size=shape[::-1]).astype(dtype).T
        if name in transposed
        else rng.normal(size=shape).astype(dtype)
        for name, shape in (("a", (m, k)), ("b", (k, n)))
    )
    c = np.empty((m, n), dtype)
    runs = [product(a, b, c) for product in PRODUCTS]
    with peers.threads(THREADS):
        # In turns, so that what disturbs one window of a library misses another.
        return min(_seconds_each(*run) for _ in range(WINDOWS) for run in runs)


def _seconds_each(run: Callable[[], Any], number: int) -> float:
    run()
    time.sleep(PAUSE_SECONDS)
    best, end = np.inf, time.perf_counter() + WINDOW_SECONDS
    while (started := time.perf_counter()) < end:
        run()
        best = min(best, time.perf_counter() - started)
    return best / number


@numba.njit(nogil=True, fastmath=True)
def _triad(a, b, c, repeats):
    for r in range(repeats):
        s = np.float32(r)
        for i in range(a.size):
            a[i] = b[i] + s * c[i]


def bandwidth(n_bytes: int) -> float:
    """Bytes a second of a triad on arrays of together so many bytes, on all threads."""
    return _bandwidth(2 ** round(np.log2(max(n_bytes, 2**12))))


@functools.cache
def _bandwidth(n_bytes: int) -> float:
    times = max(1, 2**31 // n_bytes)  # some 10 ms: starting threads is nothing beside it
    run = triads(n_bytes, times)
    run()
    return n_bytes * times / min(_seconds(run) for _ in range(10))


def triads(n_bytes: int, times: int) -> Callable[[], Any]:
    """So many triads on all threads; each moves the bytes that the arrays have together."""
    n = n_bytes // 12 // THREADS
    arrays = [[np.ones(n, np.float32) for _ in range(3)] for _ in range(THREADS)]

    def run() -> tuple[Any, ...]:
        threads = [threading.Thread(target=_triad, args=(*own, times)) for own in arrays]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return ()

    return run


def _seconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def step_seconds(cell: Cell) -> float:
    """Seconds below which a training step cannot go by the rates that were measured."""
    return _products(cell) + _update(cell)


def _products(cell: Cell) -> float:
    B, total = cell.batch_size, 0.0
    for l, (n_in, n_out) in enumerate(zip(cell.sizes[:-1], cell.sizes[1:], strict=True)):
        if l == 0 and cell.density < 1.0:
            total += _sparse(cell)
            continue
        total += product_seconds(B, n_in, n_out, "", cell.dtype)
        total += product_seconds(n_in, B, n_out, "a", cell.dtype)
        if l:
            total += product_seconds(B, n_out, n_in, "b", cell.dtype)
    return total


def _sparse(cell: Cell) -> float:
    """A sparse product moves a row of the weights for each entry, its gradient two."""
    n_in, n_out, itemsize = *cell.sizes[:2], np.dtype(cell.dtype).itemsize
    entries = cell.batch_size * round(n_in * cell.density)
    return 3 * entries * n_out * itemsize / bandwidth(n_in * n_out * itemsize)


def _update(cell: Cell) -> float:
    arrays = UPDATE_ARRAYS[cell.solver]
    array = cell.n_parameters * np.dtype(cell.dtype).itemsize
    return arrays * array / bandwidth((arrays + 1) // 2 * array)
