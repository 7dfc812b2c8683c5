"""Opens lanes that came to this worker: reads their duplicate windows, each beside the frames of all others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from detectors.worker.partitions.frames_in_progress import Flow
from detectors.worker.partitions.partition_queue import Lane
from detectors.worker.partitions.window import rebuild
from detectors.worker.quarantine.quarantine import Guarding
from infra.broker.port import Reader, TopicPartition
from infra.errors import PartitionLostError
from infra.failure.retry import ConsumerContext, StoppedError
from schemas import topics

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WindowSource:
    """Where duplicate windows are read, how many answers they hold, and the partition counts before each growth."""

    reader: Reader
    size: int
    former_counts: tuple[int, ...] = ()


class Opener:
    """While a lane is being opened no more is polled for it; what was polled already waits in its order."""

    def __init__(
        self, source: WindowSource, flow: Flow, work: ConsumerContext, guard: Guarding, tasks: asyncio.TaskGroup
    ) -> None:
        self._source = source
        self._flow = flow
        self._work = work
        self._guard = guard
        self._tasks = tasks
        self._waiting: dict[Lane, list[Callable[[], None]]] = {}
        self._again: set[Lane] = set()

    def open(self, lane: Lane) -> None:
        """Begin to read the window of ``lane``, a new ownership of which has begun."""
        if lane in self._waiting:
            # What is being read may be older than this ownership.
            self._again.add(lane)
        else:
            self._waiting[lane] = []
            self._flow.hold(lane, self)
            self._tasks.create_task(self._open(lane), name=f"detector-open-{lane.number}")

    def when_open(self, lane: Lane, begin: Callable[[], None]) -> None:
        """Call ``begin``, now or as soon as ``lane`` is open."""
        waiting = self._waiting.get(lane)
        if waiting is None:
            begin()
        else:
            waiting.append(begin)

    async def _open(self, lane: Lane) -> None:
        self._guard.look()
        try:
            await self._read_window(lane)
            while lane in self._again:
                await self._read_window(lane)
        except StoppedError as stopped:
            logger.info("left to the next worker: %s", stopped)
            return
        except PartitionLostError as lost:
            logger.info("no longer opened: %s", lost)
        for begin in self._waiting.pop(lane):
            begin()
        self._flow.go_on(lane, self)

    async def _read_window(self, lane: Lane) -> None:
        self._again.discard(lane)
        under_way = lane.entries
        answers, source = TopicPartition(topics.DETECTIONS, lane.number), self._source
        read = partial(rebuild, source.reader, answers, source.size, source.former_counts)

        async def still_ours() -> None:
            if not lane.epochs:
                raise PartitionLostError(f"lane {lane.number} went to another worker")

        window = await self._work.retry(read, f"read the duplicate window of lane {lane.number}", still_ours)
        lane.renew(window, under_way)
