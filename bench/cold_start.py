"""What does a new process pay: for imports, and for what is compiled or loaded?

Times are taken inside of the process, from the line before to the line after, so that the start
of the interpreter does not dilute them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.table import Table, number, spread

ROOT = Path(__file__).resolve().parent.parent

IMPORTS = (
    "from fastgd import MLPClassifier",
    "import numba, sklearn.neural_network",  # what fastgd stands on
    "import sklearn.neural_network",
    "import torch",
    "import jax, optax",
)

IMPORT = """
import json, time
started = time.perf_counter()
{statement}
print(json.dumps(time.perf_counter() - started))
"""

# A name in FITS, and what it fits.
FITS = {
    "adam": "MLPClassifier(hidden_layer_sizes=(32,), max_iter=10)",
    "rmsprop": "MLPClassifier(hidden_layer_sizes=(32,), max_iter=10, solver='rmsprop')",
    "regressor": "MLPRegressor(hidden_layer_sizes=(32,), max_iter=10)",
}

FIT = """
import json, time, warnings
import numpy as np
from fastgd import MLPClassifier, MLPRegressor

warnings.simplefilter("ignore")
rng = np.random.RandomState(0)
X, y = rng.normal(size=(2000, 64)).astype("f"), np.arange(2000) % 10
seconds = []
for model in [{models}]:
    started = time.perf_counter()
    model.fit(X, y)
    seconds.append(time.perf_counter() - started)
print(json.dumps(seconds))
"""


def import_seconds(statement: str) -> float:
    """Seconds that an import takes in a new process; NaN if there is nothing to import."""
    try:
        return float(_run(IMPORT.format(statement=statement)))
    except subprocess.CalledProcessError as error:
        if "ModuleNotFoundError" in error.stderr:
            return np.nan
        raise


def fit_seconds(cache: str | Path, *names: str) -> list[float]:
    """Seconds of fits in a new process, one after the other, that keeps compiled code there."""
    models = ", ".join(FITS[name] for name in names)
    return _run(FIT.format(models=models), NUMBA_CACHE_DIR=str(cache))


def _run(code: str, **environment: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        # A package that is installed has its bytecode beside it.
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def first_fits() -> dict[str, float]:
    """Seconds of each kind of first fit."""
    with tempfile.TemporaryDirectory() as folder:
        caches = [Path(folder, str(number)) for number in range(3)]
        compiling = [fit_seconds(cache, "adam", "rmsprop", "regressor") for cache in caches]
        first, optimizer, loss = np.median(compiling, axis=0)
        warm = [fit_seconds(caches[0], "adam", "adam") for _ in range(5)]
        everything = [fit_seconds(caches[0], "adam", "rmsprop", "regressor") for _ in range(3)]
    with tempfile.TemporaryDirectory() as cache:
        fit_seconds(cache, "adam")
        later_optimizer = fit_seconds(cache, "adam", "rmsprop")[1]
        later_loss = fit_seconds(cache, "adam", "regressor")[1]
    return {
        "first fit, empty cache": first,
        "then a second optimizer in the same process": optimizer,
        "then a second loss in the same process": loss,
        "first fit, from disk": float(np.median([fits[0] for fits in warm])),
        "the same fit again": float(np.median([fits[1] for fits in warm])),
        "second optimizer, from disk": float(np.median([fits[1] for fits in everything])),
        "second loss, from disk": float(np.median([fits[2] for fits in everything])),
        "new optimizer in a process whose first came from disk": later_optimizer,
        "new loss in a process whose first came from disk": later_loss,
    }


def report(rounds: int = 7) -> None:
    """Seconds of imports in turns, then of first fits."""
    pairs = [[import_seconds(statement) for statement in IMPORTS] for _ in range(rounds + 1)]
    table = Table(["cold start", "seconds"])
    for statement, seconds in zip(IMPORTS, np.median(pairs[1:], axis=0), strict=True):
        table.row(f"`{statement}`", "not installed" if np.isnan(seconds) else number(seconds))
    ours, base = np.array(pairs[1:]).T[:2]
    table.row(
        "the first of them / what it stands on", spread(*np.percentile(ours / base, [20, 50, 80]))
    )
    for name, seconds in first_fits().items():
        table.row(name, number(seconds))
