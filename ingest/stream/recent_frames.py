"""Finds which frames are at the end of a partition already, so that none is published a second time.

A client whose connection was lost sends again what was not acknowledged, although it may have been published: before
the gateway was killed, or while the broker's acknowledgement was lost. The topic itself says so. Its last events are
read only in these cases, and per partition once; later calls read only what is new.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from infra.broker.partitioning import partition_for
from infra.broker.port import Reader, TopicPartition
from infra.broker.reading import opened_reader, read_between, respond_within
from infra.errors import BrokerUnavailableError, RefusedError, TopicMismatchError
from infra.failure.error_texts import error_text
from infra.telemetry.sampled_log import SampledLog
from schemas.cloudevents import Headers, header
from schemas.errors import EventError
from schemas.topics import FRAMES_BACKFILL, FRAMES_LIVE

logger = logging.getLogger(__name__)

OpenReader = Callable[[], Awaitable[Reader]]

_HANG_S = 10.0
_READ_LIMIT_S = 60.0


class RecentFrames:
    """Holds the ids of the last ``tail`` frames of the partitions that were asked for."""

    def __init__(self, open_reader: OpenReader, partitions: int, tail: int) -> None:
        self._open_reader = open_reader
        self._partitions = partitions
        self._tail = tail
        self._log = SampledLog(logger, burst=1, every_s=60.0)
        self._ends: dict[TopicPartition, _PartitionEnd] = {}

    async def read(self, device_id: str) -> None:
        """Read up to the end of the partitions of ``device_id``. Raises BrokerUnavailableError or TimeoutError.

        What an operator has to correct is logged and does not stop frames: a repetition is the smaller harm.
        """
        for topic in (FRAMES_LIVE, FRAMES_BACKFILL):
            try:
                await self._end_of(topic, device_id).read()
            except (RefusedError, TopicMismatchError) as error:
                self._log.log(
                    logging.WARNING,
                    topic,
                    "%s cannot be read, so frames of streams that resume may be published twice: %s",
                    topic,
                    error_text(error),
                    extra={"code": error.code},
                )

    def has(self, device_id: str, frame_id: str) -> bool:
        """Whether the frame was published before the last :meth:`read`, as a live one or as backfill."""
        return any(frame_id in self._end_of(topic, device_id).ids for topic in (FRAMES_LIVE, FRAMES_BACKFILL))

    async def find(self, device_id: str, frame_id: str) -> bool:
        """Read, and return whether the frame was published. Raises BrokerUnavailableError."""
        try:
            await self.read(device_id)
        except TimeoutError as error:
            raise BrokerUnavailableError("the last frames of the partition were not read in time") from error
        return self.has(device_id, frame_id)

    def _end_of(self, topic: str, device_id: str) -> _PartitionEnd:
        source = TopicPartition(topic, partition_for(device_id, self._partitions))
        return self._ends.setdefault(source, _PartitionEnd(self._open_reader, source, self._tail))


class _PartitionEnd:
    """Holds the ids of the last frames of one partition, the oldest first."""

    def __init__(self, open_reader: OpenReader, source: TopicPartition, tail: int) -> None:
        self.ids: dict[str, None] = {}
        self._open_reader = open_reader
        self._source = source
        self._tail = tail
        self._next: int | None = None
        self._lock = asyncio.Lock()
        self._begun = self._ended = 0

    async def read(self) -> None:
        """Read what is new; calls that come together share one reading."""
        asked = self._begun
        async with self._lock:
            if self._ended > asked:
                # It began after this call, and succeeded.
                return
            self._begun += 1
            async with asyncio.timeout(_READ_LIMIT_S):
                await self._read()
            self._ended = self._begun

    async def _read(self) -> None:
        topic, partition = self._source
        async with opened_reader(self._open_reader(), _HANG_S) as reader:
            bounds = await respond_within(reader.bounds(topic, [partition]), _HANG_S, topic)
            first, end = bounds[partition]
            if self._next is None or self._next > end:
                # The topic was made anew.
                self.ids.clear()
                self._next = first
            start = max(first, self._next, end - self._tail)
            async for record in read_between(reader, self._source, start, end):
                self._add(record.headers)
        self._next = end

    def _add(self, headers: Headers) -> None:
        try:
            frame_id = header(headers, "ce_id")
        except EventError:
            # Not a record of a gateway.
            return
        if frame_id is not None:
            self.ids[frame_id] = None
            if len(self.ids) > self._tail:
                del self.ids[next(iter(self.ids))]
