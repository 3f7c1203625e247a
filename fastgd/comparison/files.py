"""Files that are there as a whole, or as they were before."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_text(path: str | Path, text: str) -> None:
    """Write a file; one of before stays if that fails."""
    path = Path(path)
    # A pipe or a device, which is not replaced, even where a shell has turned it to a file.
    if (path.exists() and not path.is_file()) or Path("/dev") in path.absolute().parents:
        path.write_text(text, "utf-8")
        return
    path = path.resolve()  # of a link, what it points to
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".fastgd-")
    temporary = Path(name)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.chmod(path.stat().st_mode if path.exists() else 0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
