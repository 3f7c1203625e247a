"""What the processor can do that code is compiled for."""

from __future__ import annotations

from llvmlite import binding
from numba.core import config


def is_x86() -> bool:
    """Whether it understands x86's instructions, whatever the compiler is told of it."""
    return binding.get_process_triple().startswith(("x86_64", "i386", "i686"))


def processor_has(*features: str) -> bool:
    """Whether code is compiled for this processor, and it has all of these features."""
    known = binding.get_host_cpu_features() if compiles_for_this_processor() else {}
    return all(known.get(feature) for feature in features)


def compiles_for_this_processor() -> bool:
    """Whether the compiler is told of no other one."""
    return config.CPU_NAME in (None, "", "host") and config.CPU_FEATURES is None
