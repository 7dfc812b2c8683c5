"""Tests that files of a local broker are replaced together, and that a folder's errors name it and the option."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from infra.deploy.kafka.errors import KafkaServerError
from infra.deploy.kafka.files import absolute_path, explained_errors, write_files


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EACCES, "this user may not read or write it"),
        (errno.EROFS, "the disk is mounted read-only"),
        (errno.ENOTDIR, "is not a folder"),
        (errno.EIO, r"cannot be used \(Input/output error\)"),
    ],
)
def test_an_error_names_folder_and_option(number: int, shown: str) -> None:
    with (
        pytest.raises(KafkaServerError, match=rf"^/some/home: {shown}.*choose a different --home$"),
        explained_errors(Path("/some/home"), "--home"),
    ):
        raise OSError(number, os.strerror(number))


def test_no_file_is_replaced_when_one_cannot_be_written(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "missing" / "second"
    first.write_text("old")
    with pytest.raises(FileNotFoundError):
        write_files({first: "new", second: "new"})
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("first", "old")]


def test_a_removed_current_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(KafkaServerError, match=r"^home: the current folder was removed; .*give --home an absolute"):
        absolute_path(Path("home"), "--home")
    assert absolute_path(tmp_path, "--home") == tmp_path
