"""Ctrl-C waits for the compiler.

Numba's registries and LLVM's lock do not survive an exception in their midst: a process that was
interrupted there hung, crashed, or could not compile any more.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


class _Noting:
    """A handler that remembers that there was a signal."""

    def __init__(self) -> None:
        self.noted: tuple[Any, ...] | None = None

    def __call__(self, *arguments: Any) -> None:
        self.noted = arguments


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Deliver a Ctrl-C that comes within the block when it has ended."""
    before = signal.getsignal(signal.SIGINT)
    # Signals come to the main thread alone, and one block within another leaves them to it.
    if threading.current_thread() is not threading.main_thread() or (
        not callable(before) or isinstance(before, _Noting)
    ):
        yield
        return
    handler = _Noting()
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if handler.noted is not None:
            before(*handler.noted)
