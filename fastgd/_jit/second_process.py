"""A second process that compiles: of one process, Numba lets a single thread do it at a time.

What it has compiled, this process loads from disk.  It imports no more than the code does, and is
ready in half a second, where what a first fit needs takes three to compile.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

Tasks = Sequence[Callable[[], Any]]

# First where modules are, then what to do, which is in one of them.  No collections of garbage,
# which find none, and no orderly end, which nobody needs: a tenth of a second each.
SCRIPT = """
import gc, os, pickle, sys
gc.disable()
sys.path[:] = pickle.load(sys.stdin.buffer)
pickle.load(sys.stdin.buffer)()
os._exit(0)
"""

# How long to wait for what the other process has begun, in terms of the time that passed by then.
PATIENCE = 2.0


def compile_by_two(tasks: Tasks, tell: Callable[[int], None] | None = None) -> None:
    """Do ``tasks``, which compile, in this process and another one: who is free takes the next.

    Where there can't be another process, this one does them all; should the other fail, what it
    began is left undone, which the next to need it will notice.

    Parameters
    ----------
    tasks : sequence of callable
        To be pickled; what they compile is kept on disk.  Better the long ones first.
    tell : callable or None
        Gets the number of each task that this process begins.
    """
    started = time.monotonic()
    with _folder() as folder:
        process = _start(partial(_do_what_is_free, tasks, folder)) if folder else None
        try:
            _do_what_is_free(tasks, folder, tell)
            if process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(PATIENCE * (time.monotonic() - started))
        finally:
            if process is not None:
                process.kill()
                process.wait()


@contextlib.contextmanager
def _folder() -> Iterator[Path | None]:
    """A folder for a moment; None where there can't be one."""
    try:
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    except OSError:
        yield None
        return
    with folder as name:
        yield Path(name)


def _do_what_is_free(
    tasks: Tasks, folder: Path | None, tell: Callable[[int], None] | None = None
) -> None:
    """Do the tasks that the other process has not begun."""
    for number, task in enumerate(tasks):
        if _is_begun(number, folder):
            continue
        if tell is not None:
            tell(number)
        task()


def _is_begun(number: int, folder: Path | None) -> bool:
    """Whether the other process has begun a task; if not, its file now says that this one has."""
    try:
        if folder is not None:
            (folder / str(number)).touch(exist_ok=False)
    except FileExistsError:
        return True
    except OSError:
        pass  # a full disk: better twice than never
    return False


def _start(work: Callable[[], None]) -> subprocess.Popen[bytes] | None:
    """A process that does ``work``; None if there can't be one, or is no processor for it."""
    # What embeds Python may be the executable, and would begin all over.
    is_python = Path(sys.executable or "").name.lower().startswith("python")
    if not is_python or _n_processors() < 2:
        return None
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError:
        return None
    with contextlib.suppress(OSError), process.stdin as pipe:  # type: ignore[union-attr]
        pipe.write(pickle.dumps(sys.path) + pickle.dumps(work))
    return process


def _n_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
