"""Compiled code on disk, which Numba's own cache would do in two ways that fail silently.

- It sees only the function's own file: an edited or upgraded *helper* would keep returning the old
  numbers (numba issue 1833).  Here the key of an entry holds a digest of all sources of the
  package, the versions of Numba and llvmlite, and the flags.
- It numbers its data files, so two processes that write at once can exchange their code.  Here a
  data file is named by the digest of its key.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import pickle
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config
from numba.core.caching import CompileResultCacheImpl
from numba.core.runtime import rtsys

from fastgd._files import write_whole
from fastgd._jit.garbage import no_garbage_collection
from fastgd._jit.processor import compiles_for_this_processor

DIGEST_BYTES = hashlib.sha256().digest_size
PACKAGE = Path(__file__).resolve().parents[1]


def _source_stamp() -> str:
    """Digest of everything that decides what the compiler emits, the signature apart."""
    versions = f"{sys.implementation.cache_tag} {numba.__version__} {llvmlite.__version__}"
    digest = hashlib.sha256(versions.encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


# Taken now, while the sources are what this process imports: they may be edited while it runs.
SOURCE_STAMP = _source_stamp()


def is_ours(thing: Any) -> bool:
    """Whether a function or class is part of the package, and so of its source stamp."""
    return bool(thing.__module__.partition(".")[0] == __package__.partition(".")[0])


class KernelCache:
    """Disk cache of one dispatcher; stands where Numba puts its own ``FunctionCache``."""

    def __init__(self, py_func: Callable[..., Any], flags: str, name: str = "") -> None:
        self._py_func = py_func
        self._flags = flags
        self._name = name or f"{py_func.__module__}.{py_func.__qualname__}"
        self._enabled = True

    @functools.cached_property
    def _impl(self) -> CompileResultCacheImpl | None:
        try:
            return CompileResultCacheImpl(self._py_func)
        except RuntimeError:
            _warn_once_that_nothing_is_cached()
            return None

    @property
    def cache_path(self) -> str | None:
        """Folder of the data files, or None where no folder can be written."""
        return None if self._impl is None else self._impl.locator.get_cache_path()

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def flush(self) -> None:
        """Delete this function's data files."""
        for path in self._data_files():
            path.unlink(missing_ok=True)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compile result kept for a signature, or None."""
        path = self._data_path(sig, target_context.codegen())
        if path is None:
            return None
        try:
            content = path.read_bytes()
        except OSError:
            return None
        digest, payload = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        # A damaged file must cost a compilation, never a fit: machine code is run as it is.
        if hashlib.sha256(payload).digest() != digest:
            return None
        with no_garbage_collection():
            # All that it needs of what Numba sets up to compile; the rest takes ten times as long.
            rtsys.initialize(target_context)
            return self._impl.rebuild(target_context, pickle.loads(payload))  # type: ignore[union-attr]

    def holds(self, sig: Any, target_context: Any) -> bool:
        """Whether there is something for a signature, or nothing can be kept."""
        path = self._data_path(sig, target_context.codegen())
        return path is None or path.exists()

    def save_overload(self, sig: Any, result: Any) -> None:
        """Keep a compile result; a full or read-only disk is no reason to fail."""
        path = self._data_path(sig, result.codegen)
        if path is None or not self._impl.check_cachable(result):  # type: ignore[union-attr]
            return
        payload = numba.core.serialize.dumps(self._impl.reduce(result))  # type: ignore[union-attr]
        try:
            write_whole(path, hashlib.sha256(payload).digest() + payload)
        except OSError:
            return
        for old in self._data_files():
            if not old.name.startswith(self._prefix()):
                with contextlib.suppress(OSError):  # of another user, or in use
                    old.unlink(missing_ok=True)

    def _data_files(self) -> list[Path]:
        if self._impl is None:
            return []
        return list(Path(self._impl.locator.get_cache_path()).glob(f"{self._stem()}*.nbc"))

    def _stem(self) -> str:
        return f"{self._name}-"

    def _prefix(self) -> str:
        # The CPU is not part of the prefix: machines that share a home share the folder.
        return f"{self._stem()}{SOURCE_STAMP[:16]}"

    def _data_path(self, sig: Any, codegen: Any) -> Path | None:
        if not self._enabled or self._impl is None:
            return None
        # Of a processor that the compiler is told of nothing is known, be it this very one.
        processor = codegen.magic_tuple(), compiles_for_this_processor()
        key = repr((sig, processor, self._flags, bool(config.BOUNDSCHECK)))
        digest = hashlib.sha256(key.encode()).hexdigest()[:32]
        return Path(self._impl.locator.get_cache_path()) / f"{self._prefix()}-{digest}.nbc"


@functools.cache
def _warn_once_that_nothing_is_cached() -> None:
    warnings.warn(
        "fastgd found no folder where it can keep its compiled code, so every process compiles"
        " anew. Make one writable: the package's __pycache__, the user's cache folder"
        f" or the one that NUMBA_CACHE_DIR names (now {config.CACHE_DIR!r};"
        f" temporary folder {tempfile.gettempdir()!r}).",
        RuntimeWarning,
        stacklevel=2,
    )
