"""Keeps the queue of frames: takes new ones within limits, and gives out the next one to send."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections import deque
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

from infra.process.monotonic import monotonic_s
from infra.storage.durable_files import make_folder
from infra.telemetry.sampled_log import SampledLog
from infra.waiting import wait_until_set
from ingest.edge.port import NewFrame, SpoolGoneError, SpoolUnavailableError, Taken
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool import frame_file
from ingest.edge.spool.counts import Counts
from ingest.edge.spool.entry import Entry, Lane
from ingest.edge.spool.frame_file import UNFINISHED, DamagedFrameError, Header, SpooledFrame, number_and_key
from ingest.edge.spool.history import History
from ingest.edge.spool.limits import SpoolLimits
from ingest.edge.spool.refused import Refusal
from ingest.edge.spool.set_aside import SetAside

logger = logging.getLogger(__name__)
_sampled = SampledLog(logger)

WAITING_FOLDER = "waiting"
_SPACE_CHECK_S = 1.0
_DROP_BEYOND_BYTES = 4_000_000
_MOST_IN_FLIGHT = 64
"""The largest window of a stream, in frames"""
_LONGEST_SENDING_S = 30.0
_BAD_FILE = (errno.EIO, errno.EISDIR)


class Spool:
    """Is the queue on the disk; one process at a time has it, and its methods run in one event loop."""

    def __init__(self, folder: Path, settings: EdgeSettings, counts: Counts) -> None:
        """Open the queue in ``folder`` with what is there. Raises OSError."""
        self._folder = folder
        self._waiting = folder / WAITING_FOLDER
        make_folder(self._waiting)
        self._identity = _identity(folder)
        self._limits = SpoolLimits(self._waiting, settings)
        self._when_full = settings.when_full
        self._live_s = settings.live_s
        self._flight = settings.flight
        self.counts = counts
        self.history = History(folder / "history.sqlite")
        self._backlog: deque[Entry] = deque()
        self._live: deque[Entry] = deque()
        self._by_key: dict[str, Entry] = {}
        self._next_number = 1
        self._adding = asyncio.Lock()
        self._arrived = asyncio.Event()
        self._left = asyncio.Event()
        self._in_flight: set[Entry] = set()
        self._set_aside = SetAside(folder)
        self._used_bytes = 0
        self._load()

    def close(self) -> None:
        """Close what is open."""
        self.history.close()

    @property
    def frames(self) -> int:
        """The number of frames that wait."""
        return len(self._by_key)

    @property
    def used_bytes(self) -> int:
        """The bytes of all files: of frames that wait, and of those that were set aside."""
        return self._used_bytes + self._set_aside.size_bytes

    @property
    def is_sending(self) -> bool:
        """Whether a frame is being sent."""
        return bool(self._in_flight)

    def require_there(self) -> None:
        """Raise SpoolGoneError when the folder is not the one that was opened."""
        if _identity(self._folder) != self._identity:
            raise SpoolGoneError(
                f"the spool {self._folder} was removed, unmounted or replaced by another folder while the client ran; "
                "frames that were in it are where that folder is now. Put it back, and start the client again"
            )

    async def add(self, frame: NewFrame) -> Taken:
        """Keep ``frame``; at the return of SPOOLED it survives a power cut. Raises SpoolUnavailableError."""
        header = frame_file.header_of(frame, self._flight)
        first_line = frame_file.encode(header)
        key = frame_file.frame_key(header)
        async with self._adding:
            if await self._is_known(key):
                self.counts.known += 1
                return Taken.KNOWN
            size_bytes = len(first_line) + len(frame.image)
            dropped_bytes = 0
            while (full := await self._try_write(key, first_line, frame)) is not None:
                oldest = self._oldest() if self._when_full == "drop_oldest" else None
                # What another program fills must not cost the whole queue.
                if oldest is not None and dropped_bytes <= 2 * size_bytes + _DROP_BEYOND_BYTES:
                    dropped_bytes += oldest.size_bytes
                    await self._drop(oldest, full)
                elif self._when_full == "drop_newest":
                    self._count_dropped(frame, full)
                    await self._note_flight(key, header.flight)
                    return Taken.DROPPED
                else:
                    return Taken.FULL
            await self._note_flight(key, header.flight)
            return Taken.SPOOLED

    async def wait_for_space(self) -> None:
        """Wait until a frame has left the queue, or a second has passed (the disk may have got free space)."""
        self._left.clear()
        await wait_until_set(self._left, _SPACE_CHECK_S)

    async def wait_for_arrival(self, timeout_s: float) -> None:
        """Wait until a frame arrives, or ``timeout_s``: live frames become backlog by waiting alone."""
        self._arrived.clear()
        await wait_until_set(self._arrived, timeout_s)

    def next_of(self, lane: Lane) -> Entry | None:
        """Return the first frame of ``lane`` that is not being sent; frames stop being live with age.

        None also while a frame that is being sent as a live one would come first: if that fails, it is sent before.
        """
        self._age()
        for entry in self._live if lane is Lane.LIVE else self._backlog:
            if entry.sent_by is None:
                return entry
            if entry.sent_by is not lane:
                return None
        return None

    def take(self, entry: Entry, lane: Lane) -> None:
        """Keep ``entry`` from being dropped, or given out again, until it has left the queue or is put back."""
        entry.sent_by = lane
        self._in_flight.add(entry)

    def next_entries(self, lane: Lane, most: int) -> list[Entry]:
        """Return the next frames of ``lane``, at most ``most``, whether they are being sent or not."""
        self._age()
        return list(islice(self._live if lane is Lane.LIVE else self._backlog, most))

    def behind(self, entry: Entry, lane: Lane) -> Entry | None:
        """Return the frame after ``entry`` in ``lane`` that is not being sent."""
        part = iter(self._live if lane is Lane.LIVE else self._backlog)
        for each in part:
            if each is entry:
                return next((one for one in part if one.sent_by is None), None)
        return None

    def _age(self) -> None:
        oldest_s = monotonic_s() - self._live_s
        while self._live and not (self._live[0].arrived_s or 0.0) > oldest_s:
            self._backlog.append(self._live.popleft())

    async def header(self, entry: Entry) -> Header | None:
        """Return what is known of the frame of ``entry``; None when it cannot be read now."""
        try:
            return await asyncio.to_thread(frame_file.read_header, self._waiting / entry.file_name)
        except (OSError, DamagedFrameError):
            return None

    async def open(self, entry: Entry, lane: Lane = Lane.BACKLOG) -> SpooledFrame | None:
        """Read the frame of ``entry`` to send it from ``lane``; None when it need not be sent.

        It was dropped meanwhile, or was sent before this process started, and a power cut brought its file back.
        Raises DamagedFrameError and SpoolUnavailableError.
        """
        if self._by_key.get(entry.key) is not entry:
            self.put_back(entry)
            return None
        self.take(entry, lane)
        path = self._waiting / entry.file_name
        if entry.arrived_s is None and await asyncio.to_thread(self.history.was_sent, entry.key):
            await self._remove(entry)
            return None
        try:
            found = await asyncio.to_thread(frame_file.read_frame, path)
            entry.flight = found.header.flight
            return found
        except FileNotFoundError as error:
            self.require_there()
            raise DamagedFrameError(f"{path} was removed by another program") from error
        except OSError as error:
            if error.errno in _BAD_FILE:
                # One bad block of the disk must not hold all other frames back.
                raise DamagedFrameError(f"{path} cannot be read: {error.strerror}") from error
            raise SpoolUnavailableError(f"{path} cannot be read: {error.strerror}") from error

    def put_back(self, entry: Entry) -> None:
        """Keep the frame of ``entry`` for another attempt; until then it may be dropped."""
        self._in_flight.discard(entry)
        entry.sent_by = None

    async def finish(self, entry: Entry) -> None:
        """Remove a frame that the gateway has."""
        await self._note_flight(entry.key, entry.flight)
        await asyncio.to_thread(self.history.add_sent, entry.key)
        self.counts.sent += 1
        self.counts.sent_bytes += entry.size_bytes
        await self._remove(entry)

    async def refuse(self, entry: Entry, frame: SpooledFrame, refusal: Refusal) -> None:
        """Set a frame aside that the gateway refuses, with the reason. Raises SpoolUnavailableError."""
        await self._note_flight(entry.key, frame.header.flight)
        await self._set_aside.add_refused(frame, refusal)
        self.counts.refused += 1
        await self._remove(entry)

    async def set_damaged_aside(self, entry: Entry, reason: DamagedFrameError) -> None:
        """Take a damaged frame out of the queue, unless its source has just brought it again.

        Raises SpoolUnavailableError.
        """
        async with self._adding:
            if self._by_key.get(entry.key) is not entry or await self._is_whole(entry):
                self.put_back(entry)
                return
            await self._set_aside.move_damaged(self._waiting / entry.file_name, entry.key, reason)
            self.counts.damaged += 1
            await self._remove(entry)

    async def _note_flight(self, key: str, flight: str | None) -> None:
        """Note a frame of a flight, also a second time: a power cut may undo the first."""
        if flight is not None:
            await asyncio.to_thread(self.history.add_to_flight, flight, key)

    def _make_whole(self) -> None:
        """Make the folder of the queue again where only this is gone. Raises SpoolGoneError."""
        self.require_there()
        with suppress(OSError):
            self._waiting.mkdir(exist_ok=True)

    def _load(self) -> None:
        found: list[Entry] = []
        written_at: dict[str, float] = {}
        for each in os.scandir(self._waiting):
            if each.name.endswith(UNFINISHED):
                # Its source still has the frame.
                Path(each.path).unlink(missing_ok=True)
            elif (parts := number_and_key(each.name)) is not None:
                state = each.stat()
                found.append(Entry(*parts, state.st_size, None))
                written_at[parts[1]] = state.st_mtime
        found.sort(key=lambda one: one.number)
        # A live frame that the former process was sending is one of its last; of the backlog it sent the first.
        live_since = max(written_at.values(), default=0.0) - self._live_s - _LONGEST_SENDING_S
        for place, entry in enumerate(found):
            entry.maybe_sent = place < _MOST_IN_FLIGHT or (self._live_s > 0 and written_at[entry.key] >= live_since)
            self._backlog.append(entry)
            self._by_key[entry.key] = entry
            self._used_bytes += entry.size_bytes
            self._next_number = entry.number + 1

    async def _is_known(self, key: str) -> bool:
        """Return whether the frame was sent, or is in the queue and whole: a power cut may have damaged it."""
        entry = self._by_key.get(key)
        # What this process has written, it has not lost since.
        if entry is not None and (entry.arrived_s is not None or await self._is_whole(entry)):
            return True
        return await asyncio.to_thread(self.history.was_sent, key)

    async def _is_whole(self, entry: Entry) -> bool:
        try:
            await asyncio.to_thread(frame_file.read_frame, self._waiting / entry.file_name)
        except (OSError, DamagedFrameError):
            return False
        return True

    async def _try_write(self, key: str, first_line: bytes, frame: NewFrame) -> str | None:
        """Write a new frame, or a damaged one again in its place; return the reason if the spool is full.

        Raises SpoolUnavailableError.
        """
        former = self._by_key.get(key)
        size_bytes = len(first_line) + len(frame.image)
        entry = former or Entry(self._next_number, key, size_bytes, None)
        path = self._waiting / entry.file_name
        try:
            full = self._limits.reason(self.frames, self.used_bytes, size_bytes)
            if full is not None:
                return full
            await asyncio.to_thread(frame_file.write_frame, path, first_line, frame.image)
        except OSError as error:
            full = self._limits.reason_of(error)
            if full is not None:
                return full
            self._make_whole()
            raise SpoolUnavailableError(
                f"the spool {self._waiting} cannot be written: {error.strerror or error}"
            ) from error
        self.counts.spooled += 1
        self._used_bytes += size_bytes
        if former is not None and self._by_key.get(key) is former:
            self._used_bytes -= former.size_bytes
            former.size_bytes = size_bytes
            return None
        await self._set_aside.forget_damaged(key)
        self._next_number = max(self._next_number, entry.number + 1)
        entry.arrived_s = monotonic_s()
        self._by_key[key] = entry
        (self._backlog if frame.is_late and self._live_s else self._live).append(entry)
        self._arrived.set()
        return None

    async def _drop(self, oldest: Entry, full: str) -> None:
        self.counts.dropped_oldest += 1
        _sampled.log(
            logging.ERROR,
            "old frames dropped",
            "%s; the oldest frame in the queue is dropped (edge.when_full is drop_oldest)",
            full,
        )
        await self._remove(oldest)

    def _count_dropped(self, frame: NewFrame, full: str) -> None:
        self.counts.dropped_newest += 1
        _sampled.log(
            logging.ERROR,
            "new frames dropped",
            "%s; the new frame %s is dropped (edge.when_full is drop_newest)",
            full,
            frame.name,
        )

    def _oldest(self) -> Entry | None:
        self._age()
        return next((each for each in chain(self._backlog, self._live) if each.sent_by is None), None)

    async def _remove(self, entry: Entry) -> None:
        """Take ``entry`` out of the queue and delete its file."""
        self.put_back(entry)
        if self._by_key.pop(entry.key, None) is None:
            return
        for part in (self._live, self._backlog):
            if entry in part:
                part.remove(entry)
        self._used_bytes -= entry.size_bytes
        self._left.set()
        path = self._waiting / entry.file_name
        try:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        except OSError as error:
            logger.warning("%s cannot be deleted: %s", path, error.strerror)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return what tells a folder from another one with its name; None when there is none."""
    try:
        found = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
