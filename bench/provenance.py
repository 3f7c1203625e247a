"""What a figure depends on and no benchmark can hold fixed: machine, versions, threads."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from pathlib import Path

from threadpoolctl import threadpool_info

from bench.pairing import THREADS

PACKAGES = (
    "fastgd", "numba", "numpy", "scipy", "scikit-learn", "torch", "jax", "jaxlib", "optax",
)  # fmt: skip


@functools.cache
def versions() -> dict[str, str]:
    """Versions of everything that takes part."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    import fastgd

    found["fastgd"] = fastgd.__version__  # of the tree at work, not of an installed one
    found["blas"] = ", ".join(sorted({_blas_name(library) for library in threadpool_info()} - {""}))
    return found


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


def provenance() -> str:
    """Everything in one line."""
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{cpu_model()}, {THREADS} threads; {packages}\n"
