"""Files are there as a whole, or as they were before."""

import os
import threading

import pytest

from fastgd._files import write_whole

POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has neither modes nor devices")


def fail(*_):
    raise OSError("no space")


def test_a_new_file_and_a_file_of_before(tmp_path):
    path = tmp_path / "file"
    write_whole(path, b"one")
    assert path.read_bytes() == b"one"
    write_whole(str(path), b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_of_before_stays_if_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_whole(path, b"after")
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["file"]


@POSIX
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o444])
def test_nobody_may_read_more_than_before(tmp_path, monkeypatch, mode):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    path.chmod(mode)
    modes = []
    chmod = type(path).chmod

    def watched(self, mode):
        modes.append(self.stat().st_mode & 0o777)
        chmod(self, mode)

    monkeypatch.setattr(type(path), "chmod", watched)
    write_whole(path, b"after")
    assert modes == [0o600]  # while it was written
    assert path.stat().st_mode & 0o777 == mode


@POSIX
def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@POSIX
def test_links_stay_links(tmp_path):
    (tmp_path / "link").symlink_to("file")
    write_whole(tmp_path / "link", b"through")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"through"


@POSIX
def test_a_pipe_is_written_to(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    write_whole(path, b"through")
    reader.join(10)
    assert read == [b"through"]
    assert path.is_fifo()


@POSIX
def test_devices_are_written_to_and_shared_memory_is_no_device(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "replace", lambda *names: calls.append(names))
    write_whole("/dev/null", b"gone")
    assert calls == []
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no shared memory here")
    name = f"/dev/shm/{tmp_path.name}-fastgd"
    write_whole(name, b"whole")
    (temporary, target), *_ = calls
    os.unlink(temporary)
    assert str(target) == name
