"""The MNIST database, read from checked IDX files or downloaded once.

A file is used only if its uncompressed bytes have the published MD5: mirrors vanish behind
portals that answer with HTML, downloads break off, and a network trains on garbage without
complaint.  Every read is bounded by the size that the file must have, so a file that lies
about itself costs no more memory than an honest one.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastgd._files import write_whole

__all__ = ["MNIST_MIRRORS", "load_mnist"]

MNIST_MIRRORS: tuple[str, ...] = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)

_TIMEOUT_SECONDS = 30.0
# The time-out starts anew with every packet; without a deadline a server that sends a byte
# now and then would hold the caller for ever.
_DEADLINE_SECONDS = 600.0
_BLOCK_BYTES = 1 << 16
# Compression makes incompressible bytes longer, but by less than this for files of this size.
_COMPRESSION_SLACK = 1 << 16
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WBITS = 16 + zlib.MAX_WBITS
_IDX_UINT8 = 0x08


@dataclass(frozen=True)
class _IdxFile:
    """What one IDX file of unsigned bytes must be: its name, its MD5, its array's shape."""

    name: str
    md5: str
    shape: tuple[int, ...]

    @property
    def header(self) -> bytes:
        return struct.pack(f">HBB{len(self.shape)}I", 0, _IDX_UINT8, len(self.shape), *self.shape)

    @property
    def size(self) -> int:
        return len(self.header) + math.prod(self.shape)

    @property
    def stored_limit(self) -> int:
        """The most bytes that the file can have on disk, compressed or not."""
        return self.size + _COMPRESSION_SLACK


_TRAIN_IMAGES = _IdxFile(
    "train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb", (60000, 28, 28)
)
_TRAIN_LABELS = _IdxFile("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624", (60000,))
_TEST_IMAGES = _IdxFile(
    "t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea", (10000, 28, 28)
)
_TEST_LABELS = _IdxFile("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637", (10000,))
_FILES = (_TRAIN_IMAGES, _TRAIN_LABELS, _TEST_IMAGES, _TEST_LABELS)


def load_mnist(
    *, download: bool = True, data_home: str | os.PathLike[str] | None = None
) -> tuple[
    npt.NDArray[np.float32],
    npt.NDArray[np.int64],
    npt.NDArray[np.float32],
    npt.NDArray[np.int64],
]:
    """Load the MNIST database of handwritten digits, in the order of its files.

    The four IDX files, compressed (``.gz``) or not, are read from ``$FASTGD_DATA/mnist`` if
    the environment variable ``FASTGD_DATA`` is set, and from nowhere else then; otherwise
    from ``<data_home>/mnist``.  A file that is not there is downloaded from the first of
    ``MNIST_MIRRORS`` that has a sound copy, and kept in ``<data_home>/mnist``.

    Parameters
    ----------
    download : bool, default=True
        Whether a file that the data home lacks is downloaded.  With False the network is
        never touched.
    data_home : str or path-like, default=None
        The folder that holds ``mnist``.  None is scikit-learn's data home:
        ``$SCIKIT_LEARN_DATA`` if set, else ``~/scikit_learn_data``.  ``FASTGD_DATA``, if set,
        takes precedence.

    Returns
    -------
    X_train : ndarray of shape (60000, 784), float32
        Pixels of the training images, row by row, in [0, 1].
    y_train : ndarray of shape (60000,), int64
        Digits of the training images.
    X_test : ndarray of shape (10000, 784), float32
        Pixels of the test images, row by row, in [0, 1].
    y_test : ndarray of shape (10000,), int64
        Digits of the test images.

    Raises
    ------
    ValueError
        If a file is truncated, corrupt, or another file than the one published.
    FileNotFoundError
        If a file is missing and may not be downloaded.
    OSError
        If no mirror has a sound copy of a missing file, or the data home cannot be written.

    References
    ----------
    Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits",
    http://yann.lecun.com/exdb/mnist/

    Examples
    --------
    >>> from fastgd.datasets import load_mnist
    >>> X_train, y_train, X_test, y_test = load_mnist()  # doctest: +SKIP
    >>> X_train.shape, y_train[:5].tolist()  # doctest: +SKIP
    ((60000, 784), [5, 0, 4, 1, 9])
    """
    train_images, train_labels, test_images, test_labels = (
        _load(file, download=download, data_home=data_home) for file in _FILES
    )
    return _rows(train_images), _classes(train_labels), _rows(test_images), _classes(test_labels)


def _rows(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """One row of pixels in [0, 1] per image."""
    rows = images.reshape(len(images), -1).astype(np.float32)
    rows /= np.float32(255)
    return rows


def _classes(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    return labels.astype(np.int64)


def _load(
    file: _IdxFile, *, download: bool, data_home: str | os.PathLike[str] | None
) -> npt.NDArray[np.uint8]:
    """The array of one file, from the first place that has it."""
    pinned = os.environ.get("FASTGD_DATA")
    folder = (Path(pinned).expanduser() if pinned else _data_home(data_home)) / "mnist"
    path = _find(folder, file.name)
    if path is not None:
        return _read(path, file)
    if pinned:
        raise FileNotFoundError(
            f"{folder / file.name} is missing, with and without .gz. FASTGD_DATA is set, so no "
            "other place is searched and nothing is downloaded: put the file there, or unset "
            "FASTGD_DATA."
        )
    if not download:
        raise FileNotFoundError(
            f"{folder / file.name} is missing, with and without .gz. Put the file there, or "
            "call load_mnist(download=True)."
        )
    return _download(file, folder)


def _data_home(data_home: str | os.PathLike[str] | None) -> Path:
    """What scikit-learn's ``get_data_home`` returns, but the folder is not created."""
    if data_home is None:
        data_home = os.environ.get("SCIKIT_LEARN_DATA") or "~/scikit_learn_data"
    return Path(data_home).expanduser()


def _find(folder: Path, name: str) -> Path | None:
    # Only files count: some archivers unpack x.gz to a folder x that holds x.
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def _read(path: Path, file: _IdxFile) -> npt.NDArray[np.uint8]:
    """The array of a file on disk."""
    with path.open("rb") as stream:
        stored = stream.read(file.stored_limit + 1)
    try:
        return _check(stored, file)
    except ValueError as error:
        raise ValueError(
            f"{path} is not the published MNIST file: {error}. Replace it with a sound copy, or "
            "delete it: load_mnist() downloads what the data home lacks, unless FASTGD_DATA is "
            "set."
        ) from error


def _check(stored: bytes, file: _IdxFile) -> npt.NDArray[np.uint8]:
    """The array in the bytes of a file, if they are the ones published."""
    if len(stored) > file.stored_limit:
        raise ValueError(
            f"found more than {file.stored_limit} bytes, expected {file.size} when uncompressed"
        )
    data = _decompress(stored, file.size)
    array = _parse_idx(data, file)
    _check_md5(data, file.md5)
    return array


def _decompress(stored: bytes, size: int) -> bytes:
    """The uncompressed bytes: at most ``size + 1``, the last of which tells of too many."""
    # The content decides, not the name: browsers and servers undo the compression at times
    # and leave the name as it was.
    if not stored.startswith(_GZIP_MAGIC):
        return stored
    stream = zlib.decompressobj(_GZIP_WBITS)
    try:
        data = stream.decompress(stored, size + 1)
    except zlib.error as error:
        raise ValueError(f"found a corrupt gzip stream ({error}), expected a sound one") from error
    if len(data) > size:
        raise ValueError(f"found more than {size} bytes once decompressed, expected {size}")
    if not stream.eof:
        raise ValueError(
            f"found a gzip stream that breaks off after {len(data)} bytes once decompressed, "
            f"expected {size}"
        )
    if stream.unused_data:
        raise ValueError(
            f"found {len(stream.unused_data)} trailing bytes after the gzip stream, expected none"
        )
    return data


def _parse_idx(data: bytes, file: _IdxFile) -> npt.NDArray[np.uint8]:
    """The array of an IDX file, whose header and length must be those expected."""
    header = data[: len(file.header)]
    if header[:4] != file.header[:4]:
        raise ValueError(
            f"found the magic bytes {header[:4].hex(' ') or '(none)'}, "
            f"expected {file.header[:4].hex(' ')}"
        )
    if len(header) < len(file.header):
        raise ValueError(
            f"found {len(data)} bytes, which break off within the header, expected {file.size}"
        )
    counts = struct.unpack(f">{len(file.shape)}I", header[4:])
    if counts != file.shape:
        raise ValueError(f"found the counts {counts} in the header, expected {file.shape}")
    if len(data) != file.size:
        raise ValueError(f"found {len(data)} bytes, expected {file.size}")
    return np.frombuffer(data, np.uint8, offset=len(file.header)).reshape(file.shape)


def _check_md5(data: bytes, expected: str) -> None:
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != expected:
        raise ValueError(f"found the MD5 {found} of the uncompressed bytes, expected {expected}")


def _download(file: _IdxFile, folder: Path) -> npt.NDArray[np.uint8]:
    """The array of the first sound copy on the mirrors, which is kept in ``folder``."""
    from http.client import HTTPException

    # First, so that a folder that cannot be made costs no download.
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for mirror in MNIST_MIRRORS:
        url = f"{mirror}{file.name}.gz"
        try:
            stored = _fetch(url, file.stored_limit)
            array = _check(stored, file)
        except (OSError, HTTPException, ValueError) as error:
            # One line per mirror, though http.client quotes a server's line ends.
            reason = " ".join(str(error).split()) or type(error).__name__
            failures.append(f"  {url}: {reason}")
            continue
        # Outside the try: a full disk is no fault of the mirror.
        # And named for what came: a server may have undone the compression.
        suffix = ".gz" if stored.startswith(_GZIP_MAGIC) else ""
        write_whole(folder / f"{file.name}{suffix}", stored)
        return array
    raise OSError(
        "\n".join(
            [
                f"No mirror has a sound copy of {file.name}:",
                *failures,
                f"Put the file in {folder} by hand, with or without .gz, or set FASTGD_DATA to a "
                "folder whose subfolder mnist holds the four files.",
            ]
        )
    )


def _fetch(url: str, limit: int) -> bytes:
    """The body of a URL, of which no more than ``limit`` bytes are accepted."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    deadline = time.monotonic() + _DEADLINE_SECONDS
    # Some servers refuse the name that urllib gives itself.
    request = Request(url, headers={"User-Agent": "fastgd"})
    body = bytearray()
    try:
        with (
            urlopen(request, timeout=_TIMEOUT_SECONDS) as response,
            Progress(*columns, console=Console(stderr=True)) as progress,
        ):
            task = progress.add_task(url.rpartition("/")[2], total=response.length)
            # read1 returns with every packet; read would wait for a full block, however slow.
            while block := response.read1(_BLOCK_BYTES):
                body += block
                if len(body) > limit:
                    raise ValueError(f"found more than {limit} bytes, expected at most that many")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not complete after {_DEADLINE_SECONDS:g} seconds")
                progress.update(task, completed=len(body))
    except HTTPError as error:
        # The exception is an open response too.
        error.close()
        raise
    return bytes(body)
