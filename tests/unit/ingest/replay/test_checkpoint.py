"""The checkpoint survives, is locked, names another source, and says what to do when its disk is full."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from uuid import UUID

import pytest

from infra.errors import SettingsError
from ingest.replay.checkpoint import FILE, Refusal, open_checkpoint
from ingest.replay.errors import CheckpointError
from ingest.replay.identity import begin, begin_again, checkpoint_folder

ONE, TWO = UUID(int=1), UUID(int=2)
SOURCE = {"kind": "zip", "address": "/pictures/may.zip", "size": 1, "device": "d"}


def test_write_keeps_state_ids_and_refusals(tmp_path: Path) -> None:
    with open_checkpoint(tmp_path / "a") as checkpoint:
        checkpoint.state.cursor, checkpoint.state.accepted = "x", 3
        checkpoint.write([ONE, ONE], [Refusal("p", "n\udcff", "CODE", "why")])
    with open_checkpoint(tmp_path / "a") as checkpoint:
        assert (checkpoint.state.cursor, checkpoint.state.accepted) == ("x", 3)
        assert (checkpoint.is_sent(ONE), checkpoint.is_sent(TWO)) == (True, False)
        assert list(checkpoint.refusals()) == [Refusal("p", "n?", "CODE", "why")]
        assert checkpoint.refused_by_code() == {"CODE": 1}


def test_open_of_a_checkpoint_in_use_is_refused(tmp_path: Path) -> None:
    with open_checkpoint(tmp_path), pytest.raises(CheckpointError, match="another process"), open_checkpoint(tmp_path):
        pass


def test_open_with_restart_forgets_everything(tmp_path: Path) -> None:
    with open_checkpoint(tmp_path) as checkpoint:
        checkpoint.write([ONE])
    with open_checkpoint(tmp_path, restart=True) as checkpoint:
        assert not checkpoint.is_sent(ONE)


def test_open_of_a_damaged_checkpoint_is_refused_until_restart(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 1_000)
    with pytest.raises(CheckpointError, match="--restart"), open_checkpoint(tmp_path):
        pass
    with open_checkpoint(tmp_path, restart=True) as checkpoint:
        checkpoint.write()


def test_write_without_space_raises_and_changes_nothing(tmp_path: Path) -> None:
    with open_checkpoint(tmp_path) as checkpoint:
        checkpoint.write([ONE])
        pages = checkpoint._writer.execute("PRAGMA page_count").fetchone()[0]
        checkpoint._writer.execute(f"PRAGMA max_page_count = {pages}")
        checkpoint.state.cursor = "later"
        with pytest.raises(CheckpointError, match="full"):
            checkpoint.write([UUID(int=number) for number in range(10, 5_000)])
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.state.cursor is None


def test_open_of_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    with open_checkpoint(tmp_path) as checkpoint:
        checkpoint.write()
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("UPDATE state SET value = '{\"new\": 1}'")
    with pytest.raises(CheckpointError, match="another version"), open_checkpoint(tmp_path):
        pass


def test_begin_of_another_source_names_what_differs(tmp_path: Path) -> None:
    with open_checkpoint(tmp_path) as checkpoint:
        begin(checkpoint, SOURCE)
        begin(checkpoint, SOURCE)
        with pytest.raises(CheckpointError, match=r"size was 1, is 2.*--restart"):
            begin(checkpoint, {**SOURCE, "size": 2})


def test_begin_again_keeps_what_was_sent(tmp_path: Path) -> None:
    with open_checkpoint(tmp_path) as checkpoint:
        checkpoint.state.accepted, checkpoint.state.finished_at = 1, "now"
        checkpoint.write([ONE], [Refusal("p", "n", "CODE", "why")])
        begin_again(checkpoint)
        assert checkpoint.is_sent(ONE)
        assert (checkpoint.state.accepted, checkpoint.state.finished_at, list(checkpoint.refusals())) == (0, None, [])


def test_checkpoint_folder_depends_on_source_and_device_only(tmp_path: Path) -> None:
    first = checkpoint_folder(tmp_path, None, SOURCE)
    assert first.parent == tmp_path / "replays"
    assert first.name.startswith("may-zip-")
    assert checkpoint_folder(tmp_path, None, {**SOURCE, "size": 9}) == first
    assert checkpoint_folder(tmp_path, None, {**SOURCE, "device": "e"}) != first
    for name in ("../x", "", "a/b", ".hidden", "x" * 101):
        with pytest.raises(SettingsError, match="--name"):
            checkpoint_folder(tmp_path, name, SOURCE)
