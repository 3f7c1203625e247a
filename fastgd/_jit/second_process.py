"""A second process that compiles: of one process, Numba lets a single thread do it at a time.

What it has compiled, this process loads from disk.  It imports no more than the code does, and is
ready in a fraction of the time that a first fit compiles.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from numba.core import config

Tasks = Sequence[Callable[[], Any]]

# First where modules are, then what to do, which is in one of them.  No collections of garbage,
# which find none, and no orderly end, which nobody needs: a tenth of a second each.  SciPy's BLAS,
# which Numba looks for when it begins, takes two; our code looks for it again where it needs one.
SCRIPT = """
import gc, os, pickle, sys
gc.disable()
sys.path[:] = pickle.load(sys.stdin.buffer)
sys.modules.setdefault("scipy.linalg")
import numba.np.arraymath
if sys.modules["scipy.linalg"] is None:
    del sys.modules["scipy.linalg"]
pickle.load(sys.stdin.buffer)()
os._exit(0)
"""

# How long to wait for what the other process has begun, in terms of the time that passed by then.
PATIENCE = 2.0

# What a Python may be called.  A program that embeds one may be the executable, too, and would
# begin all over.
PYTHON = re.compile(r"python(w|_d)?[\d.]*t?(\.exe)?", re.IGNORECASE)
# Set in the other process, which starts none.
IS_SECOND = "FASTGD_SECOND_PROCESS"

_is_free = threading.Lock()


def compile_by_two(tasks: Tasks, tell: Callable[[int], None] | None = None) -> None:
    """Do ``tasks``, which compile, in this process and another one: who is free takes the next.

    Where there can't be another process, or it fails, this one does them all.  While another thread
    of this process is here, nothing happens: there are two processes already.

    Parameters
    ----------
    tasks : sequence of callable
        To be pickled; what they compile is kept on disk.  Better the long ones first.
    tell : callable or None
        Gets the number of each task that this process begins.
    """
    if not _is_free.acquire(blocking=False):
        return
    try:
        _compile(tasks, tell)
    finally:
        _is_free.release()


def _compile(tasks: Tasks, tell: Callable[[int], None] | None) -> None:
    started = time.monotonic()
    with _folder() as folder:
        process = _start(partial(_do_what_is_free, tasks, folder)) if folder else None
        try:
            done = _do_what_is_free(tasks, folder, tell)
            if process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(PATIENCE * (time.monotonic() - started))
        finally:
            if process is not None:
                process.kill()
                process.wait()
        for number, task in enumerate(tasks):
            if number not in done and not (folder and _end_of(number, folder).exists()):
                task()


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
) -> set[int]:
    """Do the tasks that the other process has not begun; their numbers."""
    done = set()
    for number, task in enumerate(tasks):
        if _is_begun(number, folder):
            continue
        if tell is not None:
            tell(number)
        task()
        done.add(number)
        if folder is not None:
            with contextlib.suppress(OSError):
                _end_of(number, folder).touch()
    return done


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


def _end_of(number: int, folder: Path) -> Path:
    """The file that says that a task is done."""
    return folder / f"{number}-done"


def _start(work: Callable[[], Any]) -> subprocess.Popen[bytes] | None:
    """A process that does ``work``; None if there can't be one, or is no processor for it."""
    is_python = PYTHON.fullmatch(Path(sys.executable or "").name) and not hasattr(sys, "frozen")
    if not is_python or IS_SECOND in os.environ or _n_processors() < 2:
        return None
    # A folder that was chosen after the start is not in the environment.
    cache = {"NUMBA_CACHE_DIR": config.CACHE_DIR} if config.CACHE_DIR else {}
    try:
        message = pickle.dumps(sys.path) + pickle.dumps(work)
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", SCRIPT],
            env=os.environ | cache | {IS_SECOND: "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except (OSError, pickle.PicklingError, AttributeError, TypeError):
        return None  # no room for a process, or something that cannot be pickled
    with contextlib.suppress(OSError), process.stdin as pipe:  # type: ignore[union-attr]
        pipe.write(message)
    return process


def _n_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
