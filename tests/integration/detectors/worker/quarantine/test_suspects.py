"""Which frames are suspect: those a worker was working on when it crashed, and no others."""

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
answers = [UUID(each) for each in sys.argv[3:]]
slots = [mine.add(answer) for answer in answers]
mine.remove(slots[0])
os.kill(os.getpid(), int(sys.argv[2]))
time.sleep(20)
"""


def worker_that_dies(folder: Path, by: signal.Signals, answers: list[UUID]) -> None:
    """A worker that has the first of ``answers`` behind it and works on the others when the signal comes."""
    command = [sys.executable, "-c", _WORKER, str(folder), str(by.value), *map(str, answers)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -by.value


@pytest.fixture
def answers() -> list[UUID]:
    return [uuid4() for _ in range(4)]


@pytest.mark.parametrize("by", [signal.SIGSEGV, signal.SIGABRT, signal.SIGILL])
def test_frames_in_crashed_worker_are_suspects(
    tmp_path: Path, answers: list[UUID], by: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    worker_that_dies(tmp_path, by, answers)
    mine = Suspects(tmp_path)
    assert [answer in mine for answer in answers] == [False, True, True, True]
    assert "Fatal Python error" in caplog.records[0].trace  # type: ignore[attr-defined]
    mine.close()


def test_frames_in_killed_worker_are_no_suspects(tmp_path: Path, answers: list[UUID]) -> None:
    worker_that_dies(tmp_path, signal.SIGKILL, answers)
    mine = Suspects(tmp_path)
    assert not any(answer in mine for answer in answers)
    mine.close()
    assert not list(tmp_path.iterdir())


def test_suspects_of_crashed_worker_are_shared_and_cleared_for_all(tmp_path: Path, answers: list[UUID]) -> None:
    first, second = Suspects(tmp_path), Suspects(tmp_path)
    first.add(answers[0])
    worker_that_dies(tmp_path, signal.SIGSEGV, answers)
    first.read_notes()
    second.read_notes()
    # What a living one works on is not suspect.
    assert [answers[1] in each for each in (first, second)] == [True, True]
    assert answers[0] not in second
    first.clear(answers[1])
    second.read_notes()
    assert answers[1] not in second
    assert answers[2] in second
    second.close()
    first.close()


def test_suspects_slots_are_reused(tmp_path: Path, answers: list[UUID]) -> None:
    mine = Suspects(tmp_path)
    for _ in range(100):
        for slot in [mine.add(answer) for answer in answers]:
            mine.remove(slot)
    (file,) = tmp_path.glob("*.frames")
    assert file.stat().st_size == 16 * len(answers)
    assert not any(file.read_bytes())
    mine.close()


def test_frame_in_progress_twice_is_noted_until_both_are_removed(tmp_path: Path, answers: list[UUID]) -> None:
    mine = Suspects(tmp_path)
    former, present = mine.add(answers[0]), mine.add(answers[0])
    (file,) = tmp_path.glob("*.frames")
    mine.remove(former)
    assert answers[0].bytes in file.read_bytes()
    mine.remove(present)
    assert not any(file.read_bytes())
    mine.close()


def test_workers_that_start_together_keep_each_others_notes(tmp_path: Path) -> None:
    tried: list[int] = []
    lock = fcntl.flock

    def look_before_the_lock(file: int, how: int) -> None:
        if how == fcntl.LOCK_EX and not tried:
            tried.append(1)
            Suspects(tmp_path).close()
        lock(file, how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", look_before_the_lock)
        mine = Suspects(tmp_path)
    assert tried
    assert len(list(tmp_path.glob("*.frames"))) == 1
    mine.close()
    assert not list(tmp_path.iterdir())


def test_full_disk_skips_notes_and_logs_once(
    tmp_path: Path, answers: list[UUID], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    mine = Suspects(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", refuse)
        slots = [mine.add(answer) for answer in answers]
    assert len([record for record in caplog.records if "processed without a note" in record.message]) == 1
    for slot in slots:
        mine.remove(slot)
    assert mine.add(answers[0]) in slots
    mine.close()


def test_frames_in_hung_engine_are_suspects_for_next_worker(tmp_path: Path, answers: list[UUID]) -> None:
    hung, other = Suspects(tmp_path), Suspects(tmp_path)
    hung.remove(hung.add(answers[0]))
    for answer in answers[1:]:
        hung.add(answer)
    hung.suspect_all_running()
    hung.close()
    other.read_notes()
    assert [answer in other for answer in answers] == [False, True, True, True]
    other.close()


def test_frame_that_returns_from_hung_engine_is_no_suspect(tmp_path: Path, answers: list[UUID]) -> None:
    slow = Suspects(tmp_path)
    slow.add(answers[0])
    slow.suspect_all_running()
    assert list(tmp_path.glob("*.suspect"))
    slow.mark_innocent(answers[0])
    slow.read_notes()
    assert answers[0] not in slow
    slow.close()


def test_replaced_folder_does_not_keep_worker_from_closing(tmp_path: Path, answers: list[UUID]) -> None:
    folder = tmp_path / "detectors"
    mine = Suspects(folder)
    folder.rename(tmp_path / "away")
    folder.write_text("a file where the folder was")
    mine.remove(mine.add(answers[0]))
    mine.clear(answers[0])
    mine.close()
