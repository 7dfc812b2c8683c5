"""Checks that only regular files are opened and read, whatever else a path names."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from infra.regular_files import open_regular, read_regular


def test_a_pipe_a_folder_a_device_and_a_socket_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "socket"))
    kinds = {tmp_path / "pipe": "pipe", tmp_path: "folder", Path(os.devnull): "device", tmp_path / "socket": "socket"}
    for path, kind in kinds.items():
        with pytest.raises(OSError, match=kind) as caught:
            open_regular(path)
        assert caught.value.filename == str(path)
    listening.close()


def test_read_regular_returns_the_content_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(OSError, match="it has 5 bytes, at most 4"):
        read_regular(path, 4)
    # A hole of the disk: nothing of it is read.
    os.truncate(path, 1 << 40)
    with pytest.raises(OSError, match="1,099,511,627,776 bytes"):
        read_regular(path, 1_000_000)


def test_read_regular_reads_files_of_proc_which_have_a_size_of_0() -> None:
    assert read_regular(Path("/proc/self/status"), 1_000_000).startswith(b"Name:")
    with pytest.raises(OSError, match="at most 3"):
        read_regular(Path("/proc/self/status"), 3)


def test_a_file_of_the_system_that_has_no_content_yet_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, writing = os.pipe()
    os.set_blocking(number, False)
    monkeypatch.setattr("infra.regular_files.open_regular", lambda _path: os.fdopen(number, "rb"))
    with pytest.raises(OSError, match="a stream of the system"):
        read_regular(tmp_path / "kmsg", 1_000)
    os.close(writing)
