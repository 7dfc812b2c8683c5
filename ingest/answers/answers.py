"""Shares the following of partitions among all requests that wait, and ends it when nobody waits any more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from infra.broker.partitioning import partition_for
from ingest.answers.follower import OpenReader
from ingest.answers.partition import PartitionAnswers
from ingest.answers.places import WaitingPlaces
from ingest.settings import GatewaySettings
from schemas.topics import DETECTIONS, FRAMES_DEAD, TopicSpec

_IDLE_S = 30.0


class _Numbers(NamedTuple):
    """Names the partitions that have the answers of a device."""

    detections: int
    dead: int


class _Watched:
    """Counts who uses the answers of a partition; ``idle`` ends them some time after the last one."""

    def __init__(self, partition: PartitionAnswers) -> None:
        self.partition = partition
        self.users = 0
        self.idle: asyncio.TimerHandle | None = None


class Answers:
    """Waits for answers; bounded in memory by ``gateway.max_waiting`` and ``gateway.answer_tail``."""

    def __init__(
        self,
        open_reader: OpenReader,
        topics: Mapping[str, TopicSpec],
        settings: GatewaySettings,
        *,
        idle_s: float = _IDLE_S,
    ) -> None:
        """``idle_s``: how long a partition is followed after the last wait."""
        self.places = WaitingPlaces(settings.max_waiting)
        self._is_stopping = False
        self._open_reader = open_reader
        self._partitions = _Numbers(topics[DETECTIONS].partitions, topics[FRAMES_DEAD].partitions)
        self._tail = settings.answer_tail
        self._idle_s = idle_s
        self._watched: dict[_Numbers, _Watched] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def followed(self) -> int:
        """How many partitions are followed."""
        return len(self._watched)

    @contextmanager
    def watch(self, device_id: str) -> Iterator[PartitionAnswers]:
        """Follow the partition that has the answers of ``device_id`` during the block, and for some time after it."""
        numbers = _Numbers(*(partition_for(device_id, count) for count in self._partitions))
        watched = self._watched.get(numbers)
        if watched is None:
            partition = PartitionAnswers(self._open_reader, numbers.detections, numbers.dead, self._tail)
            watched = self._watched[numbers] = _Watched(partition)
            if self._is_stopping:
                partition.stop_waiting()
        if watched.idle is not None:
            watched.idle.cancel()
            watched.idle = None
        watched.users += 1
        try:
            yield watched.partition
        finally:
            watched.users -= 1
            if watched.users == 0:
                watched.idle = asyncio.get_running_loop().call_later(self._idle_s, self._end, numbers, watched)

    def stop_waiting(self) -> None:
        """End all waits without an answer, and all later ones, because the process stops."""
        self._is_stopping = True
        for watched in self._watched.values():
            watched.partition.stop_waiting()

    async def close(self) -> None:
        """Stop following; may be called twice."""
        self.stop_waiting()
        for numbers, watched in list(self._watched.items()):
            self._end(numbers, watched)
        await asyncio.gather(*self._closing)

    def _end(self, numbers: _Numbers, watched: _Watched) -> None:
        if self._watched.get(numbers) is not watched:
            return
        del self._watched[numbers]
        if watched.idle is not None:
            watched.idle.cancel()
        task = asyncio.get_running_loop().create_task(watched.partition.close(), name="answers-close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
