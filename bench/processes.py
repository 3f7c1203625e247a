"""What a new process pays: import times, and the first fit with and without a compile cache.

Times are taken inside of the process, from the line before to the line after, so that the start
of the interpreter does not dilute a ratio.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

IMPORTS = {
    "fastgd": "import fastgd",
    "numba and sklearn": "import numba, sklearn.neural_network",
}

IMPORT = """
import json, time
started = time.perf_counter()
{statement}
print(json.dumps(time.perf_counter() - started))
"""

FITS = """
import json, time, warnings
from bench.problems import SMALL, samples
from fastgd import MLPClassifier

warnings.simplefilter("ignore")
X, y = samples(SMALL)
model = MLPClassifier(SMALL.sizes[1:-1], batch_size=SMALL.batch_size, max_iter=10)
seconds = []
for _ in range(6):
    started = time.perf_counter()
    model.fit(X, y)
    seconds.append(time.perf_counter() - started)
print(json.dumps({"first": seconds[0], "later": sorted(seconds[1:])[2]}))
"""


def import_seconds(statement: str) -> float:
    """Seconds that an import takes in a new process."""
    return float(_run(IMPORT.format(statement=statement), {}))


def fit_seconds(cache_folder: str | Path) -> dict[str, float]:
    """Seconds of the first fit of a new process, and the median of five later ones.

    The fit is of the small network; an empty ``cache_folder`` makes the first one compile.
    """
    return _run(FITS, {"NUMBA_CACHE_DIR": str(cache_folder)})


def _run(code: str, environment: dict[str, str]) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)
