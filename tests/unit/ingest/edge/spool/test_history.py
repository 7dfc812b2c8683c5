"""The history of a spool: odd names of files, and a disk on which it cannot be opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ingest.edge.spool.history import History


def test_history_has_names_of_files_that_are_no_text(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite")
    odd = os.fsdecode(b"/camera/a\xff.jpg")
    history.add_taken(odd, 7, 8)
    assert history.was_taken(odd, 7, 8)
    assert not history.was_taken(odd, 7, 9)
    assert not history.was_taken("/camera/a\\xff.jpg", 7, 8)
    history.close()


def test_history_that_cannot_be_opened_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "history.sqlite"
    former = History(path)
    former.add_sent("sent before")
    former.close()
    # As on a full disk, SQLite cannot make its second file.
    blocked = tmp_path / "history.sqlite-wal"
    blocked.mkdir()
    history = History(path)
    assert "cannot be written" in caplog.text
    history.add_sent("sent now")
    assert [history.was_sent(key) for key in ("sent before", "sent now", "never")] == [True, True, False]
    history.close()
    blocked.rmdir()
    again = History(path)
    assert again.was_sent("sent before")
    again.close()


def test_history_begins_on_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    history = History(tmp_path / "missing" / "history.sqlite")
    history.add_sent("sent now")
    assert history.was_sent("sent now")
    history.close()
