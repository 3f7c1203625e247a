"""The MNIST loader: where it looks, what it refuses, and what it leaves on disk."""

from __future__ import annotations

import ast
import contextlib
import gzip
import hashlib
import os
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import pytest

from fastgd import datasets
from fastgd.datasets import load_mnist

REAL_FILES = datasets._FILES
SHAPES = {
    "train-images-idx3-ubyte": (5, 4, 3),
    "train-labels-idx1-ubyte": (5,),
    "t10k-images-idx3-ubyte": (2, 4, 3),
    "t10k-labels-idx1-ubyte": (2,),
}
NAME = "train-images-idx3-ubyte"


def idx(array: np.ndarray) -> bytes:
    """An IDX file, written without the help of the code under test."""
    return (
        bytes([0, 0, 8, array.ndim])
        + b"".join(struct.pack(">I", count) for count in array.shape)
        + array.tobytes()
    )


def small_arrays() -> dict[str, np.ndarray]:
    random = np.random.RandomState(0)
    return {
        name: random.randint(0, 256 if len(shape) == 3 else 10, shape).astype(np.uint8)
        for name, shape in SHAPES.items()
    }


ARRAYS = small_arrays()
RAW = {name: idx(array) for name, array in ARRAYS.items()}
PACKED = {name: gzip.compress(raw, mtime=0) for name, raw in RAW.items()}


def small_file(name: str, raw: bytes | None = None) -> datasets._IdxFile:
    """The entry of the file table that accepts ``raw``."""
    md5 = hashlib.md5(RAW[name] if raw is None else raw, usedforsecurity=False).hexdigest()
    return datasets._IdxFile(name, md5, SHAPES[name])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files in place of MNIST's, no mirror, and no environment of the user's."""
    monkeypatch.setattr(datasets, "_FILES", tuple(small_file(name) for name in SHAPES))
    monkeypatch.setattr(datasets, "MNIST_MIRRORS", ())
    monkeypatch.delenv("FASTGD_DATA", raising=False)
    monkeypatch.delenv("SCIKIT_LEARN_DATA", raising=False)
    # A proxy of the machine must not come between the tests and their own server.
    monkeypatch.setenv("no_proxy", "*")


def fill(root: Path, *, packed: bool = True) -> Path:
    """The four small files in ``root/mnist``, which is returned."""
    folder = root / "mnist"
    folder.mkdir(parents=True)
    for name in SHAPES:
        if packed:
            (folder / f"{name}.gz").write_bytes(PACKED[name])
        else:
            (folder / name).write_bytes(RAW[name])
    return folder


def assert_is_small_mnist(result: tuple[np.ndarray, ...]) -> None:
    for array, (name, source) in zip(result, ARRAYS.items(), strict=True):
        if "images" in name:
            assert array.dtype == np.float32
            expected = np.array(
                [[pixel / 255 for pixel in image.ravel().tolist()] for image in source]
            )
            np.testing.assert_allclose(array, expected, rtol=1e-7, atol=0)
            assert array.shape == expected.shape
        else:
            assert array.dtype == np.int64
            assert array.tolist() == source.tolist()
        assert array.flags.c_contiguous
        assert array.flags.writeable


# Reading


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("packed", [True, False])
def test_reads_data_home_without_network(tmp_path: Path, packed: bool) -> None:
    fill(tmp_path, packed=packed)
    assert_is_small_mnist(load_mnist(download=False, data_home=tmp_path))
    assert_is_small_mnist(load_mnist(data_home=str(tmp_path)))


@pytest.mark.usefixtures("small")
def test_content_decides_about_compression(tmp_path: Path) -> None:
    folder = fill(tmp_path)
    (folder / f"{NAME}.gz").write_bytes(RAW[NAME])
    assert_is_small_mnist(load_mnist(download=False, data_home=tmp_path))


@pytest.mark.usefixtures("small")
def test_folder_with_the_name_of_a_file_is_passed_over(tmp_path: Path) -> None:
    folder = fill(tmp_path)
    (folder / NAME).mkdir()
    assert_is_small_mnist(load_mnist(download=False, data_home=tmp_path))


@pytest.mark.usefixtures("small")
def test_environment_takes_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "pinned")
    folder = fill(tmp_path / "home")
    (folder / f"{NAME}.gz").write_bytes(b"never read")
    monkeypatch.setenv("FASTGD_DATA", str(tmp_path / "pinned"))
    assert_is_small_mnist(load_mnist(data_home=tmp_path / "home"))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("variable", [None, "", "elsewhere", "~/elsewhere"])
def test_default_data_home_is_that_of_sklearn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    if variable is not None:
        monkeypatch.setenv("SCIKIT_LEARN_DATA", variable)
    fill(tmp_path / ("elsewhere" if variable else "scikit_learn_data"))
    assert_is_small_mnist(load_mnist(download=False))
    # scikit-learn takes an empty variable for a path and fails.
    if variable != "":
        from sklearn.datasets import get_data_home

        assert datasets._data_home(None).resolve() == Path(get_data_home()).resolve()


@pytest.mark.usefixtures("small")
def test_missing_file_without_download(tmp_path: Path, mirror: Mirror) -> None:
    mirror.serve_sound()
    folder = fill(tmp_path)
    (folder / f"{NAME}.gz").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        load_mnist(download=False, data_home=tmp_path)
    assert str(folder / NAME) in str(caught.value)
    assert mirror.hits == []


@pytest.mark.usefixtures("small")
def test_missing_file_in_environment_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: Mirror
) -> None:
    mirror.serve_sound()
    fill(tmp_path / "home")
    folder = fill(tmp_path / "pinned")
    (folder / f"{NAME}.gz").unlink()
    monkeypatch.setenv("FASTGD_DATA", str(tmp_path / "pinned"))
    with pytest.raises(FileNotFoundError) as caught:
        load_mnist(data_home=tmp_path / "home")
    assert str(folder / NAME) in str(caught.value)
    assert "FASTGD_DATA" in str(caught.value)
    assert mirror.hits == []


# Refusing

OTHER = ARRAYS[NAME].copy()
OTHER[0, 0, 0] ^= 1
HUGE = b"\0" * (len(RAW[NAME]) + datasets._COMPRESSION_SLACK + 1)

# What a bad file holds, and what the error says that it found and expected.
BAD_FILES = {
    "empty": (b"", "(none)", "00 00 08 03"),
    "html": (b"<!DOCTYPE html>", "3c 21 44 4f", "00 00 08 03"),
    "labels for images": (RAW["train-labels-idx1-ubyte"], "00 00 08 01", "00 00 08 03"),
    "float for uint8": (b"\0\0\x0d\3" + RAW[NAME][4:], "00 00 0d 03", "00 00 08 03"),
    "half a header": (RAW[NAME][:9], "9 bytes", "76"),
    "other counts": (idx(ARRAYS[NAME][:4]), "(4, 4, 3)", "(5, 4, 3)"),
    "transposed": (idx(ARRAYS[NAME].transpose(0, 2, 1)), "(5, 3, 4)", "(5, 4, 3)"),
    "greedy header": (b"\0\0\x08\3" + b"\xff" * 12 + RAW[NAME][16:], "4294967295", "(5, 4, 3)"),
    "truncated": (RAW[NAME][:-1], "75 bytes", "76"),
    "trailing byte": (RAW[NAME] + b"\0", "77 bytes", "76"),
    "endless": (HUGE, f"more than {len(HUGE) - 1} bytes", "76"),
    "one bit": (
        idx(OTHER),
        hashlib.md5(idx(OTHER), usedforsecurity=False).hexdigest(),
        small_file(NAME).md5,
    ),
    "gz: truncated inside": (gzip.compress(RAW[NAME][:-1]), "75 bytes", "76"),
    "gz: trailing inside": (gzip.compress(RAW[NAME] + b"\0"), "more than 76 bytes", "76"),
    "gz: breaks off": (PACKED[NAME][:-30], "breaks off", "76"),
    "gz: no checksum": (PACKED[NAME][:-8], "breaks off after 76 bytes", "76"),
    "gz: wrong checksum": (
        PACKED[NAME][:-8] + bytes(4) + PACKED[NAME][-4:],
        "corrupt gzip",
        "sound",
    ),
    "gz: magic alone": (b"\x1f\x8b", "breaks off after 0 bytes", "76"),
    "gz: garbage": (b"\x1f\x8b" + b"\xff" * 40, "corrupt gzip", "sound"),
    "gz: trailing after": (PACKED[NAME] + b"xyz", "3 trailing bytes", "none"),
    "gz: bomb": (gzip.compress(bytes(20_000_000)), "more than 76 bytes", "76"),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("bad", BAD_FILES)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_bad_file_is_refused(tmp_path: Path, mirror: Mirror, bad: str, suffix: str) -> None:
    stored, found, expected = BAD_FILES[bad]
    mirror.serve_sound()
    folder = fill(tmp_path)
    (folder / f"{NAME}.gz").unlink()
    path = folder / f"{NAME}{suffix}"
    path.write_bytes(stored)
    with pytest.raises(ValueError) as caught:
        load_mnist(data_home=tmp_path)
    message = str(caught.value)
    before, _, after = message.partition("expected")
    assert message.startswith(str(path))
    assert found in before
    assert expected in after
    assert "delete it" in after
    # It may be the user's own: it is neither replaced nor removed unasked.
    assert path.read_bytes() == stored
    assert mirror.hits == []


def test_md5_is_of_the_uncompressed_bytes() -> None:
    for level in (0, 1, 9):
        array = datasets._check(gzip.compress(RAW[NAME], level), small_file(NAME))
        assert array.tolist() == ARRAYS[NAME].tolist()


def test_bomb_is_not_decompressed() -> None:
    bomb = gzip.compress(bytes(20_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more than 76 bytes"):
            datasets._check(bomb, small_file(NAME))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.usefixtures("small")
def test_huge_file_is_not_read(tmp_path: Path) -> None:
    folder = fill(tmp_path, packed=False)
    with (folder / NAME).open("r+b") as stream:
        stream.truncate(100_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="found more than"):
            load_mnist(download=False, data_home=tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000


# Downloading


class Mirror:
    """A server on this machine; ``answers`` maps a path to its body, or to what writes one."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | Callable[[BaseHTTPRequestHandler], None]] = {}
        self.hits: list[str] = []
        self.agents: set[str | None] = set()
        self.stop = threading.Event()
        self.sent = 0
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # So that close() waits for the handlers, whose sockets would be left open otherwise.
        self.server.daemon_threads = False
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.hits.append(handler.path)
        self.agents.add(handler.headers["User-Agent"])
        body = self.answers.get(handler.path)
        if body is None:
            handler.send_error(404)
        elif callable(body):
            # The client hangs up on what it refuses.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                body(handler)
        else:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

    def serve_sound(self, folder: str = "a") -> None:
        for name in SHAPES:
            self.answers[f"/{folder}/{name}.gz"] = PACKED[name]

    def url(self, folder: str = "a") -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{folder}/"

    def close(self) -> None:
        self.stop.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def mirror(small: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A server whose folders ``a`` and ``b`` are the mirrors; both are empty at first."""
    server = Mirror()
    monkeypatch.setattr(datasets, "MNIST_MIRRORS", (server.url("a"), server.url("b")))
    yield server
    server.close()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


SOUND_FILES = {f"{name}.gz": PACKED[name] for name in SHAPES}


def test_download_is_kept(
    tmp_path: Path, mirror: Mirror, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.serve_sound()
    assert_is_small_mnist(load_mnist(data_home=tmp_path / "new"))
    assert mirror.hits == [f"/a/{name}.gz" for name in SHAPES]
    assert mirror.agents == {"fastgd"}
    assert files(tmp_path / "new" / "mnist") == SOUND_FILES
    out, err = capsys.readouterr()
    assert out == ""
    assert NAME in err

    assert_is_small_mnist(load_mnist(data_home=tmp_path / "new"))
    assert len(mirror.hits) == 4
    assert capsys.readouterr() == ("", "")


def test_only_missing_files_are_downloaded(tmp_path: Path, mirror: Mirror) -> None:
    mirror.serve_sound()
    folder = fill(tmp_path)
    (folder / f"{NAME}.gz").unlink()
    assert_is_small_mnist(load_mnist(data_home=tmp_path))
    assert mirror.hits == [f"/a/{NAME}.gz"]


def test_download_without_content_length(tmp_path: Path, mirror: Mirror) -> None:
    def chunked(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for byte in PACKED[NAME]:
            handler.wfile.write(bytes([byte]))

    mirror.serve_sound()
    mirror.answers[f"/a/{NAME}.gz"] = chunked
    assert_is_small_mnist(load_mnist(data_home=tmp_path))
    assert len(mirror.hits) == 4


def test_download_that_came_uncompressed_is_named_so(tmp_path: Path, mirror: Mirror) -> None:
    mirror.serve_sound()
    mirror.answers[f"/a/{NAME}.gz"] = RAW[NAME]
    assert_is_small_mnist(load_mnist(data_home=tmp_path))
    names = {path.name for path in (tmp_path / "mnist").iterdir()}
    assert names == SOUND_FILES.keys() - {f"{NAME}.gz"} | {NAME}


@pytest.mark.parametrize("bad", BAD_FILES)
def test_bad_download_goes_to_the_next_mirror(tmp_path: Path, mirror: Mirror, bad: str) -> None:
    mirror.serve_sound("a")
    mirror.serve_sound("b")
    mirror.answers[f"/a/{NAME}.gz"] = BAD_FILES[bad][0]
    assert_is_small_mnist(load_mnist(data_home=tmp_path))
    assert mirror.hits[:2] == [f"/a/{NAME}.gz", f"/b/{NAME}.gz"]
    assert files(tmp_path / "mnist") == SOUND_FILES


def closed_port() -> str:
    """The URL of a server that is no more."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return f"http://127.0.0.1:{server.server_port}/gone/"


def test_all_mirrors_fail(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_http(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"not HTTP\r\n")

    mirror.answers[f"/b/{NAME}.gz"] = b"<!DOCTYPE html>"
    mirror.answers[f"/c/{NAME}.gz"] = no_http
    urls = [mirror.url("a"), mirror.url("b"), mirror.url("c"), closed_port()]
    monkeypatch.setattr(datasets, "MNIST_MIRRORS", tuple(urls))
    with pytest.raises(OSError) as caught:
        load_mnist(data_home=tmp_path)
    head, *failures, last = str(caught.value).splitlines()
    assert NAME in head
    reasons = ["404", "3c 21 44 4f", "not HTTP", "refused"]
    for url, reason, line in zip(urls, reasons, failures, strict=True):
        assert line.strip().startswith(f"{url}{NAME}.gz: ")
        assert reason in line
    assert str(tmp_path / "mnist") in last
    assert "FASTGD_DATA" in last
    assert files(tmp_path / "mnist") == {}


def test_refusal_leaves_no_socket_open(mirror: Mirror) -> None:
    with pytest.raises(HTTPError) as caught:
        datasets._fetch(f"{mirror.url('a')}missing", 1000)
    assert caught.value.code == 404
    assert caught.value.fp.closed


def test_endless_download_is_cut(tmp_path: Path, mirror: Mirror) -> None:
    block = b"\0" * 65536

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while mirror.sent < 200_000_000:
            handler.wfile.write(block)
            mirror.sent += len(block)

    mirror.answers[f"/a/{NAME}.gz"] = endless
    with pytest.raises(OSError, match="more than 65612 bytes"):
        load_mnist(data_home=tmp_path)
    # The rest is what the buffers of the system hold.
    assert mirror.sent < 100_000_000
    assert files(tmp_path / "mnist") == {}


def test_silent_mirror_times_out(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(handler: BaseHTTPRequestHandler) -> None:
        mirror.stop.wait(30)

    monkeypatch.setattr(datasets, "_TIMEOUT_SECONDS", 0.2)
    mirror.serve_sound("a")
    mirror.serve_sound("b")
    mirror.answers[f"/a/{NAME}.gz"] = silent
    with pytest.raises(OSError, match="timed out"):
        datasets._fetch(f"{mirror.url('a')}{NAME}.gz", 1000)
    started = time.monotonic()
    assert_is_small_mnist(load_mnist(data_home=tmp_path))
    assert time.monotonic() - started < 20


def test_dribbling_mirror_meets_the_deadline(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dribble(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "500")
        handler.end_headers()
        for _ in range(500):
            handler.wfile.write(b"\0")
            if mirror.stop.wait(0.02):
                break

    monkeypatch.setattr(datasets, "_DEADLINE_SECONDS", 0.2)
    mirror.answers["/a/slow"] = dribble
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"not complete after 0\.2 seconds"):
        datasets._fetch(f"{mirror.url('a')}slow", 1000)
    assert time.monotonic() - started < 5


def test_write_is_atomic(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    moves = []

    def replace(source: Path, target: Path) -> None:
        moves.append((source.parent, source.read_bytes(), target))
        raise OSError("no space left")

    mirror.serve_sound("a")
    mirror.serve_sound("b")
    monkeypatch.setattr(os, "replace", replace)
    # The disk's error, not one that blames the mirrors, and no further mirror is asked.
    with pytest.raises(OSError, match=r"\Ano space left\Z"):
        load_mnist(data_home=tmp_path)
    folder = tmp_path / "mnist"
    assert moves == [(folder, PACKED[NAME], folder / f"{NAME}.gz")]
    assert mirror.hits == [f"/a/{NAME}.gz"]
    assert files(folder) == {}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_download_is_readable_as_the_umask_says(tmp_path: Path, mirror: Mirror) -> None:
    mirror.serve_sound()
    before = os.umask(0o022)
    try:
        load_mnist(data_home=tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / "mnist" / f"{NAME}.gz").stat().st_mode & 0o777 == 0o644


# The module and the real data


def test_what_only_a_download_needs_is_imported_by_it() -> None:
    tree = ast.parse(Path(datasets.__file__).read_text("utf-8"))
    names = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert not {name.partition(".")[0] for name in names} & {"rich", "urllib", "http"}


def test_arguments_are_keyword_only() -> None:
    with pytest.raises(TypeError, match="positional"):
        load_mnist(False)  # type: ignore[misc]


def test_real_mnist() -> None:
    if not os.environ.get("FASTGD_DATA"):
        pytest.skip("FASTGD_DATA is unset: no folder with the real MNIST files")
    assert datasets._FILES is REAL_FILES
    X_train, y_train, X_test, y_test = load_mnist(download=False)
    for X, y, n in ((X_train, y_train, 60000), (X_test, y_test, 10000)):
        assert X.shape == (n, 784)
        assert X.dtype == np.float32
        assert (X.min(), X.max()) == (0, 1)
        assert y.shape == (n,)
        assert y.dtype == np.int64
    # Published facts: the first labels, the classes' sizes, and the mean of the pixels.
    assert y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert y_test[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(y_train).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949
    ]  # fmt: skip
    assert np.bincount(y_test).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009
    ]  # fmt: skip
    assert X_train.mean(dtype=np.float64) == pytest.approx(0.1307, abs=5e-5)
    assert X_train.std(dtype=np.float64) == pytest.approx(0.3081, abs=5e-5)
    # The top of the first image, a 5, lies right of the middle, and an image is upright.
    first = np.rint(X_train[0].reshape(28, 28) * 255)
    assert first[5, 12:16].tolist() == [3, 18, 18, 18]
