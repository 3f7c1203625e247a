"""How much faster are ten fits at once, in Python threads, than one after the other on one?"""

from __future__ import annotations

import contextlib
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import fastgd
from bench import peers
from bench.cells import Cell, samples
from bench.packages import PACKAGES
from bench.pairing import PAUSE_SECONDS, THREADS
from bench.peers.estimators import estimator
from bench.table import Table, number, spread

CELLS = (Cell((64, 32, 10), 32, 100, 50), Cell((784, 256, 128, 10), 128, 20, 4))
FITS = 10
ROUNDS = {"fastgd": 16, "scikit-learn": 4}  # which is slow; the first round is discarded


def fit(package: Any, cell: Cell, n_threads: int) -> list[float]:
    """Fit with ten seeds; the last losses."""
    X, y = samples(cell)
    # A fit of fastgd's takes what processors are idle; here it has one, or shares them.
    threads = {"n_jobs": 1} if package is fastgd and n_threads == 1 else {}

    def one(seed: int) -> float:
        model = estimator(package, cell).set_params(random_state=seed, **threads)
        return model.fit(X, y).loss_

    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(one, range(FITS)))


def seconds(package: Any, cell: Cell, n_threads: int) -> float:
    """Seconds of ten fits."""
    # scikit-learn's fits have one thread each in both ways: with BLAS's they take longer.
    limits = contextlib.nullcontext() if package is fastgd else peers.threads(1)
    time.sleep(PAUSE_SECONDS)
    with limits:
        started = time.perf_counter()
        fit(package, cell, n_threads)
        return time.perf_counter() - started


def report() -> None:
    """Milliseconds of ten fits, in turns, and the speed-up."""
    warnings.simplefilter("ignore")
    columns = ["ten fits", "", "one after the other, ms", f"{THREADS} at once, ms", "speed-up"]
    table = Table(columns, n_text=2)
    for cell in CELLS:
        for name, package in PACKAGES.items():
            rows = [[seconds(package, cell, n) for n in (1, THREADS)] for _ in range(ROUNDS[name])]
            alone, together = np.array(rows[1:]).T
            times = (number(1e3 * float(np.median(s))) for s in (alone, together))
            table.row(cell, name, *times, spread(*np.percentile(alone / together, [20, 50, 80])))
