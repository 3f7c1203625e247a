"""A second process that compiles: of one process, Numba lets a single thread do it at a time.

What it has compiled, this process loads from disk.  It imports no more than the code does, and is
ready in half a second, where what a first fit needs takes three to compile.
"""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

Tasks = Sequence[Callable[[], Any]]

# First where modules are, then what to do, which is in one of them.
SCRIPT = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
pickle.load(sys.stdin.buffer)()
"""

# How long to wait for what the other process has begun, in terms of the time that passed by then.
PATIENCE = 2.0


def compile_by_two(tasks: Tasks) -> None:
    """Do ``tasks``, which compile, in this process and another one: who is free takes the next.

    Where there can't be another process, this one does them all; should the other fail, what it
    began is left undone, which the next to need it will notice.

    Parameters
    ----------
    tasks : sequence of callable
        To be pickled; what they compile is kept on disk.  Better the long ones first.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        work = partial(_do_what_is_free, tasks, Path(folder))
        process = _start(work)
        try:
            work()
            if process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(PATIENCE * (time.monotonic() - started))
        finally:
            if process is not None:
                process.kill()
                process.wait()


def _do_what_is_free(tasks: Tasks, folder: Path) -> None:
    """Do the tasks that the other process has not begun; a file is who begins one."""
    for number, task in enumerate(tasks):
        try:
            (folder / str(number)).touch(exist_ok=False)
        except FileExistsError:
            continue
        task()


def _start(work: Callable[[], None]) -> subprocess.Popen[bytes] | None:
    """A process that does ``work``; None if there can't be one."""
    # What embeds Python may be the executable, and would begin all over.
    if not Path(sys.executable or "").name.lower().startswith("python"):
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
