"""What the processor can do that code is compiled for."""

from __future__ import annotations

from llvmlite import binding
from numba.core import config


def is_x86() -> bool:
    """Whether it understands x86's instructions, whatever the compiler is told of it."""
    return binding.get_process_triple().startswith(("x86_64", "i386", "i686"))


# By LLVM's name: of these it was measured.
QUICK_DIVIDERS = frozenset({"znver4"})


def processor_has(*features: str) -> bool:
    """Whether code is compiled for this processor, and it has all of these features."""
    known = binding.get_host_cpu_features() if _compiles_for_this() else {}
    return all(known.get(feature) for feature in features)


def divides_quickly() -> bool:
    """Whether this processor divides float64 numbers sooner than an estimate becomes exact."""
    return _compiles_for_this() and binding.get_host_cpu_name() in QUICK_DIVIDERS


def _compiles_for_this() -> bool:
    """Whether the compiler is told of no other processor."""
    return config.CPU_NAME in (None, "", "host") and config.CPU_FEATURES is None
