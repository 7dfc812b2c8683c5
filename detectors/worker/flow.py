"""The frames under way, all lanes together: bounds them in number and bytes, and wakes whoever waits for a change."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from detectors.worker.lanes import Commit, Entry, Lane
from detectors.worker.window import DuplicateWindow
from infra.broker.port import OutRecord, TopicPartition


class Flow:
    """Room is taken before a record is accepted and given back when it is committed or void."""

    def __init__(self, *, max_frames: int, max_bytes: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._frames = 0
        self._bytes = 0
        self._lanes: dict[int, Lane] = {}
        self._room = asyncio.Event()
        self.finished = asyncio.Event()

    @property
    def lanes(self) -> list[Lane]:
        """All lanes there are, also empty ones."""
        return list(self._lanes.values())

    def lane(self, number: int) -> Lane:
        """The lane of a partition number; a new one remembers no answers yet."""
        return self._lanes.setdefault(number, Lane(number, DuplicateWindow(0)))

    def room(self) -> int:
        """How many more frames may be accepted."""
        return self._max_frames - self._frames

    async def wait_for_room(self, timeout_s: float) -> None:
        """Return when something was given back, at the latest after ``timeout_s``."""
        self._room.clear()
        try:
            await asyncio.wait_for(self._room.wait(), timeout_s)
        except TimeoutError:
            return

    def fits(self, needed_bytes: int) -> bool:
        """Whether a frame of ``needed_bytes`` may start; a frame above the bound may when it is alone."""
        return self._bytes == 0 or self._bytes + needed_bytes <= self._max_bytes

    def accept(self, entry: Entry) -> None:
        """Queue ``entry`` in its lane."""
        self._frames += 1
        self.lane(entry.record.partition).add(entry)

    def reserve(self, entry: Entry, needed_bytes: int) -> None:
        """Count the memory that answering ``entry`` takes."""
        entry.reserved_bytes = needed_bytes
        self._bytes += needed_bytes

    def release(self, entry: Entry) -> None:
        """Give back the memory of ``entry``; its frame and pixels are gone."""
        self._bytes -= entry.reserved_bytes
        entry.reserved_bytes = 0
        self._room.set()

    def finish(self, entry: Entry, outputs: tuple[OutRecord, ...]) -> None:
        """``entry`` may be committed, with ``outputs``."""
        entry.outputs = outputs
        self.finished.set()

    def committed(self, lane: Lane, commit: Commit) -> None:
        """The entries of ``commit`` are done for good."""
        self._frames -= lane.committed(commit)
        self._room.set()

    def assigned(self, lane: Lane, source: TopicPartition, epoch: int) -> None:
        """A new ownership of ``source`` begins; what was under way from the former one is void."""
        self._void(lane.assigned(source, epoch))

    def lost(self, lane: Lane, sources: Iterable[TopicPartition]) -> None:
        """``sources`` belong to somebody else; what was under way from them is void."""
        for source in sources:
            self._void(lane.lost(source))

    def _void(self, entries: list[Entry]) -> None:
        self._frames -= len(entries)
        self._room.set()
