"""How long is an iteration of BFGS, and how does it grow with the number of parameters?"""

from __future__ import annotations

import functools
import time

import numpy as np
import scipy.optimize
from sklearn.datasets import load_digits

from bench.pairing import PAUSE_SECONDS, Contest, Run, ratio
from bench.table import Table, number, spread
from fastgd import MLPClassifier, Objective, minimize_bfgs

# Hidden units, and the iterations of a run: SciPy's are O(n³).
SIZES = {4: 30, 8: 30, 16: 15, 24: 10, 32: 10}
METHODS = {"fastgd": minimize_bfgs, "SciPy": "BFGS"}

TOLERANCE = 1e-8  # the iterates are the same but for rounding

Results = dict[str, scipy.optimize.OptimizeResult]


@functools.lru_cache(maxsize=1)
def objective(h: int) -> Objective:
    """What both minimise: scikit-learn's digits, all samples, double precision."""
    X, y = load_digits(return_X_y=True)
    return MLPClassifier((h,), activation="tanh", random_state=0).objective(X / 16, y)


@functools.lru_cache(maxsize=1)
def contest(h: int) -> tuple[Contest, Results]:
    """The parameters after the same number of iterations; and what everybody found last."""
    f, found = objective(h), Results()

    def runner(name: str) -> Run:
        def run() -> tuple[np.ndarray, int]:
            found[name] = result = scipy.optimize.minimize(
                f.fun_and_grad, f.x0, jac=True, method=METHODS[name],
                options={"maxiter": SIZES[h], "gtol": 0.0},
            )  # fmt: skip
            return result.x, result.nit

        return run

    cell = f"digits, {h} hidden units, n = {f.n_parameters:,}"
    runs = {name: runner(name) for name in METHODS}
    return Contest("BFGS", cell, SIZES[h], runs, tolerance=TOLERANCE).check(), found


def gradient_seconds(f: Objective, times: int = 20) -> float:
    """Seconds of one gradient, which an iteration needs for either method."""
    seconds = []
    time.sleep(PAUSE_SECONDS)
    for i in range(times):
        w = f.x0 * (1.0 + 1e-9 * i)  # an objective remembers its last answer
        started = time.perf_counter()
        f.fun_and_grad(w)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def growth(sizes: list[int], seconds: list[float]) -> float:
    """The exponent k of seconds ~ n^k: the slope of log seconds over log n."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def report() -> None:
    """Milliseconds an iteration, the matrix, how far apart both end, and the exponents."""
    columns = ["ms an iteration of BFGS", *METHODS, "SciPy / fastgd", "a gradient",
               "matrix, MB", "x differs by"]  # fmt: skip
    table, sizes = Table(columns), []
    steps: dict[str, list[float]] = {name: [] for name in METHODS}
    for h in SIZES:
        this, found = contest(h)
        n, seconds = objective(h).n_parameters, this.seconds()
        sizes.append(n)
        for name, times in steps.items():
            times.append(float(np.median(seconds[name])) / this.steps)
        ours, theirs = (found[name].x for name in METHODS)
        table.row(
            this.cell,
            *(number(1e3 * times[-1]) for times in steps.values()),
            spread(*ratio(seconds, "SciPy")),
            number(1e3 * gradient_seconds(objective(h))),
            f"{8 * n * n / 1e6:.2f}",
            f"{np.linalg.norm(ours - theirs) / np.linalg.norm(ours):.1e}",
        )
    exponents = (f"{name} n^{growth(sizes, times):.1f}" for name, times in steps.items())
    print(f"\nAn iteration, its gradient included, grows like: {', '.join(exponents)}.")
