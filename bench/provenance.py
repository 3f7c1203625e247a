"""What a figure depends on and no benchmark can hold fixed: machine, versions, threads."""

from __future__ import annotations

import functools
import importlib.metadata
import platform

import fastgd
from bench.pairing import THREADS
from fastgd.comparison.provenance import blas, processor

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
    found["fastgd"] = fastgd.__version__  # of the tree at work, not of an installed one
    found["blas"] = blas()
    return found


def provenance() -> str:
    """Everything in one line."""
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{processor()}, {THREADS} threads; {packages}\n"
