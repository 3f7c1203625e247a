"""Where figures come from: versions, processor, BLAS, threads."""

from __future__ import annotations

import datetime
import platform
from importlib.metadata import version
from typing import Any

import joblib
import threadpoolctl

PACKAGES = ("fastgd", "numba", "numpy", "scipy", "scikit-learn")


def provenance() -> dict[str, Any]:
    """What has to be known to repeat a measurement."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "processors": joblib.cpu_count(),
        "threads of a run": 1,
        "blas": blas(),
    }


def blas() -> str:
    """Names and versions of the BLAS libraries in use."""
    libraries = (lib for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas")
    return ", ".join(sorted({f"{lib['internal_api']} {lib['version']}" for lib in libraries}))


def processor() -> str:
    """Name of the processor as the system tells it."""
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
