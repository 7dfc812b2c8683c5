"""Keeps the queues of all partitions, limits how many frames are in progress, and wakes loops that wait for a slot."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from detectors.worker.partitions.partition_queue import Commit, FrameOutcome, PartitionQueue, PendingRecord
from detectors.worker.partitions.window import DuplicateWindow
from infra.broker.port import TopicPartition
from infra.waiting import wait_until_set
from schemas.topics import FRAMES_LIVE


class FramesInProgress:
    """Holds one queue per partition number; a frame uses a slot from its acceptance until it is committed or void.

    A partition that is held uses no slots: it is not polled, so it keeps at most as many frames as there were slots,
    and the other partitions continue with all slots. Any other has at most three quarters of the slots.
    """

    def __init__(self, *, max_frames: int, max_background: int = 1) -> None:
        """``max_background``: how many frames that are not live may be computed at once while live ones come."""
        self.max_background = max_background
        self._max_frames = max_frames
        # Not less: few frames in progress also mean few in a commit, and one device may be the only one.
        self._share = max(1, max_frames - max(1, max_frames // 4))
        self._queues: dict[int, PartitionQueue] = {}
        self._waiting: set[PendingRecord] = set()
        self._slot_freed = asyncio.Event()
        self.finished = asyncio.Event()
        """Set on each change after which there may be something to commit."""
        self.live_finished = asyncio.Event()
        """Set when a live frame is finished."""

    @property
    def queues(self) -> list[PartitionQueue]:
        """All queues, also empty ones."""
        return list(self._queues.values())

    @property
    def held_partitions(self) -> list[int]:
        """The numbers of the partitions that are held."""
        return [queue.partition for queue in self._queues.values() if queue.holds]

    @property
    def full_partitions(self) -> list[int]:
        """The numbers of the partitions that have their share of the slots; the rest is for frames of other devices."""
        return [queue.partition for queue in self._queues.values() if not queue.holds and len(queue) >= self._share]

    @property
    def most_at_once(self) -> int:
        """How many frames may be accepted at once, as they may all be of one partition that is not full."""
        counts = [len(queue) for queue in self._queues.values() if not queue.holds]
        return self._share - max((count for count in counts if count < self._share), default=0)

    def queue(self, partition: int) -> PartitionQueue:
        """Return the queue of a partition number; a new one has an empty duplicate window."""
        queue = self._queues.get(partition)
        if queue is None:
            queue = self._queues[partition] = PartitionQueue(partition, DuplicateWindow(0))
        return queue

    def free_slots(self) -> int:
        """Return how many more frames may be accepted."""
        used = sum(len(queue) for queue in self._queues.values() if not queue.holds)
        return self._max_frames - used + len(self._waiting)

    @property
    def job_room(self) -> int:
        """How many frames of jobs may be accepted at once.

        None while one of them waits for its model: those behind it could not be committed, and would use up the slots
        of live frames. And never so many that their partition would be full.
        """
        return 0 if self._waiting else max(1, self._max_frames // 2)

    def begin_wait(self, pending: PendingRecord) -> None:
        """Give the slot of ``pending`` to others while it waits for a model that takes long to load."""
        self._waiting.add(pending)
        self._slot_freed.set()

    def end_wait(self, pending: PendingRecord) -> None:
        """Take the slot of ``pending`` back."""
        self._waiting.discard(pending)
        self._slot_freed.set()

    def count_computed(self, *, without: str) -> int:
        """Return how many frames are computed now, of partitions that are not held; without the topic ``without``.

        What is finished, and waits for its commit, takes no time from others any more, nor what waits for its model.
        """
        return sum(
            pending.outcome is None and pending not in self._waiting
            for queue in self._queues.values()
            if not queue.holds
            for source, records in queue.by_topic.items()
            if source.topic != without
            for pending in records
        )

    async def wait_for_slot(self, timeout_s: float) -> None:
        """Return when a slot became free since the last call, at the latest after ``timeout_s``."""
        await wait_until_set(self._slot_freed, timeout_s)
        # Cleared only here: one that is freed while the caller polls must not be missed.
        self._slot_freed.clear()

    def finish(self, queue: PartitionQueue, pending: PendingRecord, outcome: FrameOutcome) -> None:
        """Let ``pending`` be committed with ``outcome``; every pending record is finished here and nowhere else."""
        queue.finish(pending, outcome)
        self.finished.set()
        if pending.source.topic == FRAMES_LIVE:
            self.live_finished.set()

    def hold(self, queue: PartitionQueue, reason: object) -> None:
        """Stop taking records of ``queue``'s partition until ``release`` is called with the same ``reason``."""
        queue.holds.add(reason)
        self._slot_freed.set()

    def release(self, queue: PartitionQueue, reason: object) -> None:
        """Remove ``reason`` from the reasons for which ``queue`` is held."""
        queue.holds.discard(reason)
        self._slot_freed.set()

    def remove_committed(self, queue: PartitionQueue, commit: Commit) -> None:
        """Remove the records of ``commit`` from ``queue`` and free their slots."""
        queue.remove_committed(commit)
        self._slot_freed.set()

    def drop_lost(self, queue: PartitionQueue, sources: Iterable[TopicPartition]) -> None:
        """Make the pending records of ``sources`` void, because these partitions have another owner now."""
        for source in sources:
            queue.drop(source)
            self._slot_freed.set()
