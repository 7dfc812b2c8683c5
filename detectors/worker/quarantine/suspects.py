"""Finds the frames that were in an engine when a worker crashed, so that they are tried in a separate process.

An engine is native code, and a frame that makes it crash ends the process. The frame's offset was not committed, so the
frame would come to the next worker and crash that one, too. Therefore each worker keeps a small file with the frames
that its engines work on, and Python's fault handler writes a crash into a second file. A worker that starts, or gets
partitions, looks for files whose writer no longer exists. When it finds a crash, the frames in that file are suspects.
A worker that was killed leaves no crash, so its frames are none.

All workers that share a folder (one machine) share their suspects. The files survive processes, not power failures:
nothing here is synced to disk, because after a power failure no frame is suspect. A frame is noted by the id of its
detections event.
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
    """Notes the frames in this worker's engines, and knows the suspects of this machine. Use it from the event loop."""

    def __init__(self, folder: Path) -> None:
        """``folder``: shared by the workers of a machine; created when it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        name = uuid4().hex
        self._frames_path, self._crash_path = folder / f"{name}.frames", folder / f"{name}.crash"
        unlocked = folder / f"{name}.new"
        self._frames = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        # Locked until the process ends in any way: a file whose lock is free has no writer any more. It gets its name
        # after it is locked: a worker that starts at the same moment must not take it for a file without a writer.
        fcntl.flock(self._frames, fcntl.LOCK_EX)
        self._crash = self._crash_path.open("wb")
        unlocked.rename(self._frames_path)
        faulthandler.enable(self._crash)
        self._slots = 0
        self._free: list[int] = []
        self._note_fails = self._closed = False
        self._running: dict[int, UUID] = {}
        self._hung: set[UUID] = set()
        self._suspects: set[UUID] = set()
        self.read_notes()

    def read_notes(self) -> None:
        """Read the notes of crashed workers of this machine, and all suspects; each crash is reported by one worker."""
        for path in self._folder.glob("*.frames"):
            if path != self._frames_path:
                try:
                    self._read_note(path)
                except OSError as error:
                    logger.warning("the notes of a worker in %s cannot be read now: %s", path, error)
        self._suspects = {UUID(path.stem) for path in self._folder.glob("*.suspect")}

    def __contains__(self, event_id: UUID) -> bool:
        """Return whether the frame of ``event_id`` is a suspect."""
        return event_id in self._suspects

    def add(self, event_id: UUID) -> int:
        """Note that an engine is about to get the frame of ``event_id``; return the slot to ``remove`` after that.

        After a rebalance a worker may have the same frame in progress twice, so a slot is needed. On a full disk the
        note may fail, and the work continues without it: if this frame crashes the engine, one more worker ends.
        """
        if not self._free:
            self._free.append(self._slots)
            self._slots += 1
        slot = self._free.pop()
        self._running[slot] = event_id
        self._note(slot, event_id.bytes)
        return slot

    def remove(self, slot: int) -> None:
        """Remove the note in ``slot``: the engine is done with that frame."""
        self._note(slot, bytes(_SLOT_BYTES))
        del self._running[slot]
        self._free.append(slot)

    def mark_innocent(self, event_id: UUID) -> None:
        """Clear the frame of ``event_id``, if it became a suspect here while its engine seemed to hang: it returned."""
        if event_id in self._hung:
            self._hung.discard(event_id)
            self.clear(event_id)

    def clear(self, event_id: UUID) -> None:
        """Remove the frame of ``event_id`` from the suspects: its trial is over, with any outcome."""
        self._suspects.discard(event_id)
        self._remove(self._folder / f"{event_id}.suspect")

    def suspect_all_running(self) -> None:
        """Make suspects of all frames that are in an engine now: it hangs, and one of them may be the cause.

        The next worker that gets them tries them in a separate process, and does not hang as well.
        """
        event_ids = list(self._running.values())
        self._hung.update(event_ids)
        logger.error("an engine hangs; its frames become suspects", extra={"frames": len(event_ids)})
        try:
            self._make_suspects(event_ids)
        except OSError as error:
            logger.warning("suspects cannot be noted in %s: %s", self._folder, error)

    def close(self) -> None:
        """Remove this worker's files at a normal end."""
        faulthandler.disable()
        self._crash.close()
        self._remove(self._crash_path)
        self._remove(self._frames_path)
        # The load of a model may end later.
        self._closed = True
        os.close(self._frames)

    def _remove(self, path: Path) -> None:
        """Remove a file, or log a warning: neither the work nor a drain may fail because of it."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("a worker's note cannot be removed: %s", error)

    def _note(self, slot: int, value: bytes) -> None:
        """Write ``value`` into ``slot``, or log a warning, once until a write works again."""
        if self._closed:
            return
        try:
            os.pwrite(self._frames, value, slot * _SLOT_BYTES)
        except OSError as error:
            if not self._note_fails:
                logger.warning("frames cannot be noted in %s and are processed without a note: %s", self._folder, error)
            self._note_fails = True
        else:
            self._note_fails = False

    def _read_note(self, path: Path) -> None:
        """Make suspects of the frames in ``path``, if its writer crashed; does nothing while the writer runs."""
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(path.open("rb"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (FileNotFoundError, BlockingIOError):
                return
            if not path.exists():
                # Another worker was faster.
                return
            crash = path.with_suffix(".crash")
            trace = crash.read_bytes() if crash.exists() else b""
            if trace:
                event_ids = _ids_in(file.read())
                logger.error(
                    "a worker crashed; the frames in its engines become suspects",
                    extra={"frames": len(event_ids), "trace": trace.decode(errors="replace")[:_LONGEST_TRACE]},
                )
                self._make_suspects(event_ids)
            crash.unlink(missing_ok=True)
            path.unlink()

    def _make_suspects(self, event_ids: list[UUID]) -> None:
        for event_id in event_ids:
            (self._folder / f"{event_id}.suspect").touch()


def _ids_in(data: bytes) -> list[UUID]:
    slots = (data[at : at + _SLOT_BYTES] for at in range(0, len(data), _SLOT_BYTES))
    return [UUID(bytes=slot) for slot in slots if len(slot) == _SLOT_BYTES and any(slot)]
