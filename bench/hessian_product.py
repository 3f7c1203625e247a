"""How many gradients does a product with the Hessian cost, and how long is it elsewhere?

A product at a new point: what a gradient there might have left behind is not used, by nobody.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from bench import peers
from bench.cells import SEED, Cell
from bench.pairing import Contest, repeated
from bench.table import Table, number, spread, versus

CELLS = tuple(
    Cell(sizes, n_samples, 1, 1, activation)
    for sizes, n_samples in (
        ((64, 32, 10), 5_000),
        ((784, 256, 128, 10), 10_000),
        ((64, *[64] * 8, 10), 5_000),
    )
    for activation in ("tanh", "relu")
)

# A sum that one rounds to just above zero and another to just below has two sides of relu.
TOLERANCE = 1e-3

GRADIENT, GAUSS_NEWTON = "gradient", "Gauss-Newton product"


def direction(cell: Cell) -> NDArray[Any]:
    """What the matrices are multiplied with."""
    return RandomState(SEED).standard_normal(cell.n_parameters).astype(cell.dtype)


@functools.lru_cache(maxsize=1)
def contest(cell: Cell) -> Contest:
    """Products of the Hessian with the same direction; fastgd's gradient and Gauss–Newton product.

    The latter two run in turns with the products, but are not compared to them.
    """
    v, ours = direction(cell), peers.module("fastgd")
    products = peers.runs("hessian_product", cell, v)
    more = {GRADIENT: ours.gradient(cell), GAUSS_NEWTON: ours.gauss_newton_product(cell, v)}
    this = Contest(
        "Hessian product", str(cell), cell.short_passes, products, tolerance=TOLERANCE
    ).check()
    return this._replace(runs=repeated({**products, **more}, this.steps))


def report() -> None:
    """Milliseconds; products in gradients; the best peer."""
    asked = [peer for peer in peers.present() if hasattr(peers.module(peer), "hessian_product")]
    others = [peer for peer in asked if peer != "fastgd"]
    columns = ["ms", GRADIENT, "Hessian product", "in gradients", GAUSS_NEWTON, "in gradients"]
    table = Table([*columns, *others, "best peer / fastgd"])
    for cell in CELLS:
        this = contest(cell)
        seconds = this.seconds()
        times = {
            name: number(1e3 * float(np.median(s)) / this.steps) for name, s in seconds.items()
        }
        hessian, gauss_newton = (
            spread(*np.percentile(seconds[name] / seconds[GRADIENT], [20, 50, 80]))
            for name in ("fastgd", GAUSS_NEWTON)
        )
        ours = times[GRADIENT], times["fastgd"], hessian, times[GAUSS_NEWTON], gauss_newton
        products = {peer: seconds[peer] for peer in asked}
        table.row(cell, *ours, *(times[peer] for peer in others), versus(products))
