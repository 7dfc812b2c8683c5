"""Keeps the queue of frames: takes new ones within limits, and gives out the next one to send."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from contextlib import suppress
from itertools import chain
from pathlib import Path

from infra.process.monotonic import monotonic_s
from infra.storage.durable_files import make_folder
from infra.telemetry.sampled_log import SampledLog
from ingest.edge.port import NewFrame, SpoolUnavailableError, Taken
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool import frame_file
from ingest.edge.spool.counts import Counts
from ingest.edge.spool.entry import Entry
from ingest.edge.spool.frame_file import UNFINISHED, DamagedFrameError, SpooledFrame, number_and_key
from ingest.edge.spool.history import History
from ingest.edge.spool.limits import SpoolLimits
from ingest.edge.spool.refused import Refusal
from ingest.edge.spool.set_aside import SetAside

logger = logging.getLogger(__name__)
_sampled = SampledLog(logger)

WAITING_FOLDER = "waiting"
_SPACE_CHECK_S = 1.0
_DROP_BEYOND_BYTES = 4_000_000


class Spool:
    """Is the queue on the disk; one process at a time has it, and its methods run in one event loop."""

    def __init__(self, folder: Path, settings: EdgeSettings, counts: Counts) -> None:
        """Open the queue in ``folder`` with what is there. Raises OSError."""
        self._waiting = folder / WAITING_FOLDER
        make_folder(self._waiting)
        self._limits = SpoolLimits(self._waiting, settings)
        self._when_full = settings.when_full
        self._live_s = settings.live_s
        self.counts = counts
        self.history = History(folder / "history.sqlite")
        self._backlog: deque[Entry] = deque()
        self._live: deque[Entry] = deque()
        self._by_key: dict[str, Entry] = {}
        self._next_number = 1
        self._adding = asyncio.Lock()
        self._arrived = asyncio.Event()
        self._left = asyncio.Event()
        self._in_flight: Entry | None = None
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
        return self._in_flight is not None

    async def add(self, frame: NewFrame) -> Taken:
        """Keep ``frame``; at the return of SPOOLED it survives a power cut. Raises SpoolUnavailableError."""
        header = frame_file.header_of(frame)
        first_line = frame_file.encode(header)
        key = frame_file.frame_key(header)
        async with self._adding:
            if await self._is_known(key):
                self.counts.known += 1
                return Taken.KNOWN
            size_bytes = len(first_line) + len(frame.image)
            dropped_bytes = 0
            while (full := await self._try_write(key, first_line, frame.image)) is not None:
                oldest = self._oldest() if self._when_full == "drop_oldest" else None
                # What another program fills must not cost the whole queue.
                if oldest is not None and dropped_bytes <= 2 * size_bytes + _DROP_BEYOND_BYTES:
                    dropped_bytes += oldest.size_bytes
                    await self._drop(oldest, full)
                elif self._when_full == "drop_newest":
                    self._count_dropped(frame, full)
                    return Taken.DROPPED
                else:
                    return Taken.FULL
            return Taken.SPOOLED

    async def wait_for_space(self) -> None:
        """Wait until a frame has left the queue, or a second has passed (the disk may have got free space)."""
        self._left.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._left.wait(), _SPACE_CHECK_S)

    async def wait_for_frame(self) -> None:
        """Wait until a frame is in the queue."""
        while not self._by_key:
            self._arrived.clear()
            await self._arrived.wait()

    def heads(self) -> tuple[Entry | None, Entry | None]:
        """Return the next live frame and the next one of the backlog; frames stop being live with age."""
        oldest_s = monotonic_s() - self._live_s
        while self._live and not (self._live[0].arrived_s or 0.0) > oldest_s:
            self._backlog.append(self._live.popleft())
        return (self._live[0] if self._live else None), (self._backlog[0] if self._backlog else None)

    def behind(self, entry: Entry) -> Entry | None:
        """Return the frame after ``entry`` in the queue, live or not."""
        self.heads()
        return next((each for each in chain(self._backlog, self._live) if each.number > entry.number), None)

    async def open(self, entry: Entry) -> SpooledFrame | None:
        """Read the frame of ``entry`` and keep it from being dropped; None when it need not be sent.

        It was dropped meanwhile, or was sent before this process started, and a power cut brought its file back.
        Raises DamagedFrameError and SpoolUnavailableError.
        """
        if self._by_key.get(entry.key) is not entry:
            return None
        self._in_flight = entry
        path = self._waiting / entry.file_name
        if entry.arrived_s is None and await asyncio.to_thread(self.history.was_sent, entry.key):
            await self._remove(entry)
            return None
        try:
            return await asyncio.to_thread(frame_file.read_frame, path)
        except FileNotFoundError as error:
            raise DamagedFrameError(f"{path} was removed by another program") from error
        except OSError as error:
            raise SpoolUnavailableError(f"{path} cannot be read: {error.strerror}") from error

    def put_back(self, entry: Entry) -> None:
        """Keep the frame of ``entry`` for another attempt; until then it may be dropped."""
        if self._in_flight is entry:
            self._in_flight = None

    async def finish(self, entry: Entry) -> None:
        """Remove a frame that the gateway has."""
        await asyncio.to_thread(self.history.add_sent, entry.key)
        self.counts.sent += 1
        self.counts.sent_bytes += entry.size_bytes
        await self._remove(entry)

    async def refuse(self, entry: Entry, frame: SpooledFrame, refusal: Refusal) -> None:
        """Set a frame aside that the gateway refuses, with the reason. Raises SpoolUnavailableError."""
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

    def _load(self) -> None:
        found: list[Entry] = []
        for each in os.scandir(self._waiting):
            if each.name.endswith(UNFINISHED):
                # Its source still has the frame.
                Path(each.path).unlink(missing_ok=True)
            elif (parts := number_and_key(each.name)) is not None:
                found.append(Entry(*parts, each.stat().st_size, None))
        for entry in sorted(found, key=lambda one: one.number):
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

    async def _try_write(self, key: str, first_line: bytes, image: bytes) -> str | None:
        """Write a new frame, or a damaged one again in its place; return the reason if the spool is full.

        Raises SpoolUnavailableError.
        """
        former = self._by_key.get(key)
        size_bytes = len(first_line) + len(image)
        entry = former or Entry(self._next_number, key, size_bytes, None)
        path = self._waiting / entry.file_name
        try:
            full = self._limits.reason(self.frames, self.used_bytes, size_bytes)
            if full is not None:
                return full
            await asyncio.to_thread(frame_file.write_frame, path, first_line, image)
        except OSError as error:
            full = self._limits.reason_of(error)
            if full is not None:
                return full
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
        self._live.append(entry)
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
        self.heads()
        return next((each for each in chain(self._backlog, self._live) if each is not self._in_flight), None)

    async def _remove(self, entry: Entry) -> None:
        """Take ``entry`` out of the queue and delete its file."""
        if self._in_flight is entry:
            self._in_flight = None
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
