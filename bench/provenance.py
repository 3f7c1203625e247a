"""What a figure depends on and no benchmark can hold fixed: machine and versions."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

import numba
import numpy as np
import sklearn
from threadpoolctl import threadpool_info

import fastgd


@functools.cache
def versions() -> dict[str, str]:
    """Versions of everything that takes part."""
    return {
        "python": platform.python_version(),
        "fastgd": fastgd.__version__,
        "numba": numba.__version__,
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "blas": ", ".join(sorted({_blas_name(library) for library in threadpool_info()} - {""})),
    }


def _blas_name(library: dict[str, str]) -> str:
    if library["user_api"] != "blas":
        return ""
    return f"{library['internal_api']} {library['version']}"


def cpu_model() -> str:
    """Name of the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
