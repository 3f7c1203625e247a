"""No garbage collections while Numba compiles."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator

_collects_later = False  # whether garbage collection was on before a compilation


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collections, each of which looks at all objects of the process, are a tenth of a compilation.

    Numba compiles in one thread at a time, which is why two of these never overlap.
    """
    global _collects_later
    if not gc.isenabled():
        yield
        return
    try:
        _collects_later = True
        gc.disable()
        yield
    finally:
        try:
            _let_all_grow_old()
        finally:
            _collect_again()


def _let_all_grow_old() -> None:
    """Put all objects among the old ones without looking at them, a thirtieth of a compilation.

    What a compilation leaves lives as long as the process.
    """
    if gc.get_freeze_count() == 0:
        try:
            gc.freeze()
        finally:
            gc.unfreeze()


def _collect_again() -> None:
    """Also in the child of a fork that another thread made meanwhile."""
    global _collects_later
    if _collects_later:
        gc.enable()
        _collects_later = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_collect_again)
