"""Keeps the frames under way of all lanes: limits their number, and wakes the loops that wait for a change."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from detectors.worker.partitions.partition_queue import Commit, Entry, Lane, Outcome
from detectors.worker.partitions.window import DuplicateWindow
from infra.broker.port import TopicPartition


class Flow:
    """Room is taken when a record is accepted and given back when it is committed or void.

    A lane that is held up takes no room from the others: it is polled no further, so it keeps at most as many frames
    as there was room for, and the others go on with all of it.
    """

    def __init__(self, *, max_frames: int) -> None:
        self._max_frames = max_frames
        self._lanes: dict[int, Lane] = {}
        self._room = asyncio.Event()
        self.finished = asyncio.Event()
        """Set whenever something may have become ready to be committed."""

    @property
    def lanes(self) -> list[Lane]:
        """All lanes there are, also empty ones."""
        return list(self._lanes.values())

    @property
    def held(self) -> list[int]:
        """The numbers of the lanes that are held up."""
        return [lane.number for lane in self._lanes.values() if lane.holds]

    def lane(self, number: int) -> Lane:
        """The lane of a partition number; a new one remembers no answers yet."""
        lane = self._lanes.get(number)
        if lane is None:
            lane = self._lanes[number] = Lane(number, DuplicateWindow(0))
        return lane

    def room(self) -> int:
        """How many more frames may be accepted."""
        return self._max_frames - sum(len(lane) for lane in self._lanes.values() if not lane.holds)

    async def wait_for_room(self, timeout_s: float) -> None:
        """Return when something was given back, at the latest after ``timeout_s``."""
        self._room.clear()
        try:
            await asyncio.wait_for(self._room.wait(), timeout_s)
        except TimeoutError:
            return

    def settle(self, lane: Lane, entry: Entry, outcome: Outcome) -> None:
        """Let ``entry`` be committed with ``outcome``: the one way in which an entry ends."""
        lane.settle(entry, outcome)
        self.finished.set()

    def hold(self, lane: Lane, reason: object) -> None:
        """Keep ``lane`` from taking more, until ``go_on`` with the same ``reason``."""
        lane.holds.add(reason)
        self._room.set()

    def go_on(self, lane: Lane, reason: object) -> None:
        """Take ``reason`` away."""
        lane.holds.discard(reason)
        self._room.set()

    def committed(self, lane: Lane, commit: Commit) -> None:
        """The entries of ``commit`` are done for good."""
        lane.committed(commit)
        self._room.set()

    def lost(self, lane: Lane, sources: Iterable[TopicPartition]) -> None:
        """Make void what is under way from ``sources``, which belong to somebody else."""
        for source in sources:
            lane.lost(source)
            self._room.set()
