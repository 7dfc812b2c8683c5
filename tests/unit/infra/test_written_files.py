"""Checks that a file is replaced as a whole or stays as it was."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from infra.written_files import write_whole


def test_write_whole_replaces_the_content_and_keeps_mode_and_link(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(0o600)
    link.symlink_to(path)
    write_whole(link, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777, link.is_symlink()) == (b"new", 0o600, True)
    write_whole(tmp_path / "second", b"x")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "link", "second"]


def test_a_failed_write_leaves_the_old_content_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"old", [path])


def test_a_device_is_written_to_as_it_is() -> None:
    write_whole(Path(os.devnull), b"x")
    assert Path(os.devnull).is_char_device()
