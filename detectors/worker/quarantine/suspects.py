"""Frames that may have crashed a worker: known again after the crash, so that they are tried apart from all others.

An engine is native code, and a frame that makes it crash takes the process with it. Its offset was not committed, so it
would come back to the next worker and crash that one, too. Therefore each worker keeps a small file with the answers it
is working on, and has Python's fault handler write a crash beside it. A worker that starts, or is given partitions,
looks for files whose writer is gone: with a crash beside it, its frames are suspects. A worker that was killed leaves
no crash, so its frames are none.

All workers that share a folder (one machine) share what they know. The files survive processes, not power failures:
nothing here is synced to disk, because after a power failure nobody is suspect.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import logging
import os
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

logger = logging.getLogger(__name__)

_SLOT_BYTES: Final = 16
_LONGEST_TRACE = 4_000


class Suspects:
    """The frames this process is working on, and those that crashed another one. All calls from the event loop."""

    def __init__(self, folder: Path) -> None:
        """``folder``: shared by the workers of a machine; made when it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        name = uuid4().hex
        self._frames_path, self._crash_path = folder / f"{name}.frames", folder / f"{name}.crash"
        unlocked = folder / f"{name}.new"
        self._frames = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        # Held until the process ends, however it ends: a file whose lock is free has lost its writer. It gets its name
        # when it is locked: a worker that starts at the same moment must not take it for one that was left behind.
        fcntl.flock(self._frames, fcntl.LOCK_EX)
        self._crash = self._crash_path.open("wb")
        unlocked.rename(self._frames_path)
        faulthandler.enable(self._crash)
        self._slots = 0
        self._free: list[int] = []
        self._unnoted = False
        self._entered: dict[int, UUID] = {}
        self._accused: set[UUID] = set()
        self._known: set[UUID] = set()
        self.read_notes()

    def read_notes(self) -> None:
        """Find what crashed workers of this machine have left; each is found by one worker and told to all."""
        for path in self._folder.glob("*.frames"):
            if path != self._frames_path:
                try:
                    self._read_note(path)
                except OSError as error:
                    logger.warning("what a worker left in %s cannot be looked into now: %s", path, error)
        self._known = {UUID(path.stem) for path in self._folder.glob("*.suspect")}

    def __contains__(self, answer: UUID) -> bool:
        """Whether ``answer``'s frame was under way when a worker crashed."""
        return answer in self._known

    def add(self, answer: UUID) -> int:
        """The engine is about to get ``answer``'s frame. Returns what to ``leave``: after a rebalance a worker may have
        the same frame under way twice, once for nobody.

        On a full disk the note may fail. Then the work goes on without it: should this very frame crash the engine, it
        takes one more worker with it.
        """
        if not self._free:
            self._free.append(self._slots)
            self._slots += 1
        slot = self._free.pop()
        self._entered[slot] = answer
        self._note(slot, answer.bytes)
        return slot

    def remove(self, slot: int) -> None:
        """The engine has no more to do with the frame that ``enter`` gave ``slot`` for."""
        self._note(slot, bytes(_SLOT_BYTES))
        del self._entered[slot]
        self._free.append(slot)

    def mark_innocent(self, answer: UUID) -> None:
        """The engine came back with ``answer``'s frame: if it was accused here meanwhile, that is taken back."""
        if answer in self._accused:
            self._accused.discard(answer)
            self.clear(answer)

    def clear(self, answer: UUID) -> None:
        """``answer``'s frame was tried apart, with whatever outcome: it is no suspect any more."""
        self._known.discard(answer)
        self._remove(self._folder / f"{answer}.suspect")

    def suspect_all_running(self) -> None:
        """Make suspects of all that the engine has now: it hangs, and one of them may be why.

        The next worker that gets them tries them apart, instead of hanging as well.
        """
        answers = list(self._entered.values())
        self._accused.update(answers)
        logger.error("an engine hangs; what it was working on is tried apart", extra={"frames": len(answers)})
        try:
            self._make_suspects(answers)
        except OSError as error:
            logger.warning("suspects cannot be noted in %s: %s", self._folder, error)

    def close(self) -> None:
        """The process ends as it should: it leaves nothing behind."""
        faulthandler.disable()
        self._crash.close()
        self._remove(self._crash_path)
        self._remove(self._frames_path)
        os.close(self._frames)

    def _remove(self, path: Path) -> None:
        """Remove a note; a warning when it can't be: the work goes on, and a drain ends well, all the same."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("a note of a worker cannot be removed: %s", error)

    def _note(self, slot: int, value: bytes) -> None:
        """Write ``value`` into ``slot``; a warning, once until it works again, when the disk takes nothing."""
        try:
            os.pwrite(self._frames, value, slot * _SLOT_BYTES)
        except OSError as error:
            if not self._unnoted:
                logger.warning("frames cannot be noted in %s, and are worked on unnoted: %s", self._folder, error)
            self._unnoted = True
        else:
            self._unnoted = False

    def _read_note(self, path: Path) -> None:
        """Turn what the writer of ``path`` left into suspects, if it crashed; nothing while it lives."""
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(path.open("rb"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (FileNotFoundError, BlockingIOError):
                return
            if not path.exists():
                # Another worker was quicker.
                return
            crash = path.with_suffix(".crash")
            trace = crash.read_bytes() if crash.exists() else b""
            if trace:
                answers = _answers(file.read())
                logger.error(
                    "a worker crashed; what it was working on is tried apart",
                    extra={"frames": len(answers), "trace": trace.decode(errors="replace")[:_LONGEST_TRACE]},
                )
                self._make_suspects(answers)
            crash.unlink(missing_ok=True)
            path.unlink()

    def _make_suspects(self, answers: list[UUID]) -> None:
        for answer in answers:
            (self._folder / f"{answer}.suspect").touch()


def _answers(data: bytes) -> list[UUID]:
    slots = (data[at : at + _SLOT_BYTES] for at in range(0, len(data), _SLOT_BYTES))
    return [UUID(bytes=slot) for slot in slots if len(slot) == _SLOT_BYTES and any(slot)]
