"""Files that are there as a whole, or as they were before."""

from __future__ import annotations

import contextlib
import os
import uuid
from functools import partial
from pathlib import Path


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file such that nobody sees a part of it; one of before stays if that fails."""
    path = Path(path)
    if _is_device(path):
        path.write_bytes(content)
        return
    path = Path(os.path.realpath(path))  # of a link, what it points to
    temporary = path.with_name(f".fastgd-{uuid.uuid4().hex}")
    # Nobody may read the new file who could not read the old one.
    mode = path.stat().st_mode & 0o777 if path.exists() else None
    opener = partial(os.open, mode=0o666 if mode is None else 0o600)
    try:
        with open(temporary, "xb", opener=opener) as file:
            file.write(content)
        if mode is not None:
            temporary.chmod(mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _is_device(path: Path) -> bool:
    """Whether it is a device or a pipe, perhaps one that a shell has turned to a file."""
    above = path.absolute().parents
    is_named_so = Path("/dev") in above and Path("/dev/shm") not in above
    return is_named_so or (path.exists() and not path.is_file())
