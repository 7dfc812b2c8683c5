"""Reads the duplicate windows of partitions that were assigned to this worker, while other partitions continue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from detectors.worker.partitions.frames_in_progress import FramesInProgress
from detectors.worker.partitions.partition_queue import PartitionQueue
from detectors.worker.partitions.window import rebuild_window
from infra.broker.port import Reader, TopicPartition
from infra.errors import PartitionLostError
from infra.failure.retry import ConsumerContext, StoppedError
from schemas import topics

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WindowSource:
    """Describes where duplicate windows are read from and how large they are."""

    reader: Reader
    size: int
    """How many detections events a window holds."""
    former_counts: tuple[int, ...] = ()
    """How many partitions the topics had before each growth, the newest first."""


class QueueOpener:
    """Opens queues: holds a partition while its window is read; records that were polled before wait in order."""

    def __init__(
        self,
        source: WindowSource,
        in_progress: FramesInProgress,
        context: ConsumerContext,
        tasks: asyncio.TaskGroup,
        on_opening: Callable[[], None],
    ) -> None:
        """``on_opening`` is called whenever a partition begins to be opened."""
        self._source = source
        self._in_progress = in_progress
        self._context = context
        self._tasks = tasks
        self._on_opening = on_opening
        self._waiting: dict[PartitionQueue, list[Callable[[], None]]] = {}
        self._read_again: set[PartitionQueue] = set()

    def open(self, queue: PartitionQueue) -> None:
        """Start to read the window of ``queue``, which has a new assignment."""
        if queue in self._waiting:
            # The window that is being read may be older than this assignment.
            self._read_again.add(queue)
        else:
            self._waiting[queue] = []
            self._in_progress.hold(queue, self)
            self._tasks.create_task(self._open(queue), name=f"detector-open-{queue.partition}")

    def run_when_open(self, queue: PartitionQueue, begin: Callable[[], None]) -> None:
        """Call ``begin`` now, or as soon as ``queue`` is open."""
        waiting = self._waiting.get(queue)
        if waiting is None:
            begin()
        else:
            waiting.append(begin)

    async def _open(self, queue: PartitionQueue) -> None:
        self._on_opening()
        try:
            await self._read_window(queue)
            while queue in self._read_again:
                await self._read_window(queue)
        except StoppedError as stopped:
            logger.info("partition %d is left to the next worker: %s", queue.partition, stopped)
            return
        except PartitionLostError as lost:
            logger.info("the duplicate window is not read: %s", lost)
        for begin in self._waiting.pop(queue):
            begin()
        self._in_progress.release(queue, self)

    async def _read_window(self, queue: PartitionQueue) -> None:
        self._read_again.discard(queue)
        in_progress = queue.pending
        detections, source = TopicPartition(topics.DETECTIONS, queue.partition), self._source
        read = partial(rebuild_window, source.reader, detections, source.size, source.former_counts)

        async def require_ownership() -> None:
            if not queue.epochs:
                raise PartitionLostError(f"partition {queue.partition} went to another worker")

        what = f"read the duplicate window of partition {queue.partition}"
        window = await self._context.retry(read, what, require_ownership)
        queue.replace_window(window, in_progress)
