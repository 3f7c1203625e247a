"""Files that are there as a whole, or as they were before."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file such that nobody sees a part of it; one of before stays if that fails."""
    path = Path(path)
    # A pipe or a device, which is not replaced, even where a shell has turned it to a file.
    if (path.exists() and not path.is_file()) or Path("/dev") in path.absolute().parents:
        path.write_bytes(content)
        return
    path = path.resolve()  # of a link, what it points to
    temporary = path.with_name(f".fastgd-{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content)
        if path.exists():
            temporary.chmod(path.stat().st_mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
