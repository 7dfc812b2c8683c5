"""Checks which frames are suspects: those in an engine when a worker crashed or hung, and no others."""

from __future__ import annotations

import errno
import fcntl
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from detectors.worker.quarantine.suspects import Suspects

_WORKER = """
import os, sys, time
from pathlib import Path
from uuid import UUID
from detectors.worker.quarantine.suspects import Suspects
mine = Suspects(Path(sys.argv[1]))
event_ids = [UUID(each) for each in sys.argv[3:]]
slots = [mine.add(event_id) for event_id in event_ids]
mine.remove(slots[0])
os.kill(os.getpid(), int(sys.argv[2]))
time.sleep(20)
"""


def run_worker_that_dies(folder: Path, by: signal.Signals, event_ids: list[UUID]) -> None:
    """Run a worker that has finished the first of ``event_ids`` and works on the others when the signal comes."""
    command = [sys.executable, "-c", _WORKER, str(folder), str(by.value), *map(str, event_ids)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -by.value


@pytest.fixture
def event_ids() -> list[UUID]:
    return [uuid4() for _ in range(4)]


@pytest.mark.parametrize("by", [signal.SIGSEGV, signal.SIGABRT, signal.SIGILL])
def test_frames_in_crashed_worker_are_suspects(
    tmp_path: Path, event_ids: list[UUID], by: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    run_worker_that_dies(tmp_path, by, event_ids)
    mine = Suspects(tmp_path)
    assert [event_id in mine for event_id in event_ids] == [False, True, True, True]
    assert "Fatal Python error" in caplog.records[0].trace  # type: ignore[attr-defined]
    mine.close()


def test_frames_in_killed_worker_are_no_suspects(tmp_path: Path, event_ids: list[UUID]) -> None:
    run_worker_that_dies(tmp_path, signal.SIGKILL, event_ids)
    mine = Suspects(tmp_path)
    assert not any(event_id in mine for event_id in event_ids)
    mine.close()
    assert not list(tmp_path.iterdir())


def test_suspects_of_crashed_worker_are_shared_and_cleared_for_all(tmp_path: Path, event_ids: list[UUID]) -> None:
    first, second = Suspects(tmp_path), Suspects(tmp_path)
    first.add(event_ids[0])
    run_worker_that_dies(tmp_path, signal.SIGSEGV, event_ids)
    first.read_notes()
    second.read_notes()
    # The frames of a worker that runs are no suspects.
    assert [event_ids[1] in each for each in (first, second)] == [True, True]
    assert event_ids[0] not in second
    first.clear(event_ids[1])
    second.read_notes()
    assert event_ids[1] not in second
    assert event_ids[2] in second
    second.close()
    first.close()


def test_suspects_slots_are_reused(tmp_path: Path, event_ids: list[UUID]) -> None:
    mine = Suspects(tmp_path)
    for _ in range(100):
        for slot in [mine.add(event_id) for event_id in event_ids]:
            mine.remove(slot)
    (file,) = tmp_path.glob("*.frames")
    assert file.stat().st_size == 16 * len(event_ids)
    assert not any(file.read_bytes())
    mine.close()


def test_frame_in_progress_twice_is_noted_until_both_are_removed(tmp_path: Path, event_ids: list[UUID]) -> None:
    mine = Suspects(tmp_path)
    former, present = mine.add(event_ids[0]), mine.add(event_ids[0])
    (file,) = tmp_path.glob("*.frames")
    mine.remove(former)
    assert event_ids[0].bytes in file.read_bytes()
    mine.remove(present)
    assert not any(file.read_bytes())
    mine.close()


def test_workers_that_start_together_keep_each_others_notes(tmp_path: Path) -> None:
    started: list[int] = []
    lock = fcntl.flock

    def look_before_the_lock(file: int, how: int) -> None:
        if how == fcntl.LOCK_EX and not started:
            started.append(1)
            Suspects(tmp_path).close()
        lock(file, how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", look_before_the_lock)
        mine = Suspects(tmp_path)
    assert started
    assert len(list(tmp_path.glob("*.frames"))) == 1
    mine.close()
    assert not list(tmp_path.iterdir())


def test_full_disk_skips_notes_and_logs_once(
    tmp_path: Path, event_ids: list[UUID], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    mine = Suspects(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", refuse)
        slots = [mine.add(event_id) for event_id in event_ids]
    assert len([record for record in caplog.records if "processed without a note" in record.message]) == 1
    for slot in slots:
        mine.remove(slot)
    assert mine.add(event_ids[0]) in slots
    mine.close()


def test_frames_in_hung_engine_are_suspects_for_next_worker(tmp_path: Path, event_ids: list[UUID]) -> None:
    hung, other = Suspects(tmp_path), Suspects(tmp_path)
    hung.remove(hung.add(event_ids[0]))
    for event_id in event_ids[1:]:
        hung.add(event_id)
    hung.suspect_all_running()
    hung.close()
    other.read_notes()
    assert [event_id in other for event_id in event_ids] == [False, True, True, True]
    other.close()


def test_frame_that_returns_from_hung_engine_is_no_suspect(tmp_path: Path, event_ids: list[UUID]) -> None:
    slow = Suspects(tmp_path)
    slow.add(event_ids[0])
    slow.suspect_all_running()
    assert list(tmp_path.glob("*.suspect"))
    slow.mark_innocent(event_ids[0])
    slow.read_notes()
    assert event_ids[0] not in slow
    slow.close()


def test_replaced_folder_does_not_keep_worker_from_closing(tmp_path: Path, event_ids: list[UUID]) -> None:
    folder = tmp_path / "detectors"
    mine = Suspects(folder)
    folder.rename(tmp_path / "away")
    folder.write_text("a file where the folder was")
    mine.remove(mine.add(event_ids[0]))
    mine.clear(event_ids[0])
    mine.close()
