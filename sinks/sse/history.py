"""Reads from the broker the events that a reconnecting client missed and the ring no longer has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass

from infra.broker.port import InRecord, Reader, TopicPartition
from infra.failure.metrics import RECORDS_FAILED
from schemas.errors import EventError, EventVersionError
from schemas.topics import DETECTIONS
from sinks.sse.pictures.addresses import PictureAddresses
from sinks.sse.positions import Origin, Position
from sinks.sse.ring import StreamEvent
from sinks.sse.wire import Gap

logger = logging.getLogger(__name__)

GROUP = "sse"
"""The value of the metric label ``group``; this sink reads without a consumer group."""
_CHUNK_RECORDS = 128
_READ_TIMEOUT_S = 1.0
_LOW_END_S = 5.0
_LOW_END_PAUSE_S = 0.25
# Kafka's transaction markers have offsets but are not records, so a range of offsets may have no record. One read
# without records could also be a slow broker; after a second one, with a response in between, there are none.
_SILENT_READS = 2


@dataclass(frozen=True, slots=True)
class HistoryPart:
    """Holds some events of one partition, or the gaps where events no longer exist."""

    position: Position
    """The position after them"""
    events: tuple[StreamEvent, ...] = ()
    gaps: tuple[Gap, ...] = ()


def move_into_bounds(
    position: Position, bounds: Mapping[int, tuple[int, int]], origin: Origin
) -> tuple[Position, tuple[Gap, ...]]:
    """Move ``position`` into ``bounds`` (first and next offset of some partitions); return it and the gaps."""
    moved = list(position)
    gaps: list[Gap] = []
    for partition, (first, following) in bounds.items():
        offset = position[partition]
        if origin == "former" or (offset > following and origin == "unknown"):
            moved[partition] = first
            if offset:
                gaps.append(Gap(partition, offset, None, "recreated"))
        elif offset > following:
            moved[partition] = following
            gaps.append(Gap(partition, following, offset - 1, "truncated"))
        elif offset < first:
            moved[partition] = first
            gaps.append(Gap(partition, offset, first - 1, "retention"))
    return tuple(moved), tuple(gaps)


async def steady_bounds(
    reader: Reader, position: Position, origin: Origin, partitions: Collection[int] | None = None
) -> Mapping[int, tuple[int, int]]:
    """Return the bounds of the topic's ``partitions``; read them again while the end is before ``position``.

    A new leader may report too low an end for a moment; only an end that stays low is used.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + _LOW_END_S
    while True:
        bounds = await reader.bounds(DETECTIONS, partitions)
        low = origin == "this" and any(position[number] > end for number, (_, end) in bounds.items())
        if not low or clock() > deadline:
            return bounds
        await asyncio.sleep(_LOW_END_PAUSE_S)


def read_stream_event(
    record: InRecord, pictures: PictureAddresses, newer: Callable[[EventVersionError], None] | None = None
) -> StreamEvent | None:
    """Return the event of ``record``; count and log one that is not a detections event, and return None.

    ``newer`` is called for an event of a newer version than this program can read; clients do not get it either.
    """
    try:
        return StreamEvent.read(record, pictures)
    except (EventError, EventVersionError) as error:
        RECORDS_FAILED.labels(GROUP, record.topic, error.code).inc()
        logger.log(
            logging.ERROR if isinstance(error, EventVersionError) else logging.WARNING,
            "a record was skipped: %s",
            error,
            extra={"topic": record.topic, "partition": record.partition, "offset": record.offset},
        )
        if isinstance(error, EventVersionError) and newer is not None:
            newer(error)
        return None


async def read_history(
    reader: Reader, position: Position, until: Callable[[], Position], origin: Origin, pictures: PictureAddresses
) -> AsyncGenerator[HistoryPart, None]:
    """Yield the events from ``position`` to ``until()``, partition after partition, each in order.

    ``until`` may move while this reads. The first part has the gaps, and the position in this topic for a position of
    a former one. Raises TransientError; the caller continues from the last part.
    """
    position, gaps = move_into_bounds(position, await steady_bounds(reader, position, origin), origin)
    yield HistoryPart(position, gaps=gaps)
    for partition in range(len(position)):
        silent = 0
        while position[partition] < (end := until()[partition]):
            source = TopicPartition(DETECTIONS, partition)
            records = await reader.read(
                source, position[partition], max_records=_CHUNK_RECORDS, timeout_s=_READ_TIMEOUT_S
            )
            if not records:
                silent += 1
                # Raises when the broker is unavailable, because then a read without records proves nothing.
                await reader.bounds(DETECTIONS, [partition])
            if silent == _SILENT_READS or (records and records[-1].offset >= end):
                following = end
            else:
                following = records[-1].offset + 1 if records else position[partition]
            wanted = [read_stream_event(record, pictures) for record in records if record.offset < end]
            position = (*position[:partition], following, *position[partition + 1 :])
            yield HistoryPart(position, tuple(event for event in wanted if event is not None))
