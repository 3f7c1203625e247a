"""What the processor can do that code is compiled for."""

from __future__ import annotations

from llvmlite import binding
from numba.core import config


def is_x86() -> bool:
    """Whether it understands x86's instructions, whatever the compiler is told of it."""
    return binding.get_process_triple().startswith(("x86_64", "i386", "i686"))


def processor_has(*features: str) -> bool:
    """Whether code is compiled for this processor, and it has all of these features."""
    if config.CPU_NAME not in (None, "", "host") or config.CPU_FEATURES is not None:
        return False  # the compiler is told of another one
    known = binding.get_host_cpu_features()
    return all(known.get(feature) for feature in features)
