"""Writing files to disk, also where fsync alone does not (macOS)."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

import pytest

from infra.storage import durable_files


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _: made.append("fsync"))
    monkeypatch.delattr(fcntl, "F_FULLFSYNC", raising=False)
    return made


def test_without_a_full_sync_there_is_fsync(calls: list[str], tmp_path: Path) -> None:
    durable_files.sync_folder(tmp_path)
    assert calls == ["fsync"]


def test_a_full_sync_is_made_where_there_is_one(
    calls: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda _, command: calls.append(f"fcntl {command}"))
    durable_files.sync_folder(tmp_path)
    assert calls == ["fcntl 51"]


def test_a_file_system_without_full_sync_gets_fsync(
    calls: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, command: int) -> int:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    durable_files.sync_folder(tmp_path)
    assert calls == ["fsync"]


def test_sync_file_raises_when_the_disk_cannot_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="input/output"):
        durable_files.sync_folder(tmp_path)


def test_a_sweep_goes_by_the_clock_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("new", "old"):
        (tmp_path / name).write_bytes(b"")
    os.utime(tmp_path / "old", (0, 0))
    monkeypatch.setattr(time, "time", lambda: 1e12)
    durable_files.sweep_files(tmp_path, 3_600.0)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
