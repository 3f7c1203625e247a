"""fastgd's own matrix product, on all threads, as one of those that the floor is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numpy.typing import NDArray

from bench.pairing import THREADS
from fastgd.kernels.aligned import address
from fastgd.kernels.gemm import gemm, product_entries
from fastgd.kernels.plan import Plan
from fastgd.kernels.team import share, together


@numba.njit(nogil=True)
def _products(plans, number, m, n, k, a, a_row, a_col, b, b_row, b_col, c):
    plan = plans[0]
    lo, hi = share(plan, m, 1)
    a, c = a + lo * a_row * plan.itemsize, c + lo * n * plan.itemsize
    for _ in range(number):
        gemm(plan, hi - lo, n, k, a, a_row, a_col, b, b_row, b_col, 0.0, c, n, c, n)


def own_product(
    a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], number: int
) -> Callable[[], Any]:
    """A run of ``number`` products; each thread computes its share of the rows."""
    (m, k), n = a.shape, b.shape[1]
    size = THREADS if m >= THREADS else 1
    entries = (product_entries(c.dtype, max(m, n, k), by_amx=True) for _ in range(size))
    plans = [Plan(c.dtype).set(**own) for own in entries]

    arguments = number, m, n, k, *_place(a), *_place(b), address(c)

    def run(a: Any = a, b: Any = b, c: Any = c) -> None:  # which must not die before
        together(_products, plans, size, *arguments)

    return run


def _place(x: NDArray[Any]) -> tuple[int, int, int]:
    """Address of a matrix or of its stored transpose, steps from row to row and to column."""
    if x.flags.c_contiguous:
        return address(x), x.shape[1], 1
    return address(x.T), 1, x.shape[0]
