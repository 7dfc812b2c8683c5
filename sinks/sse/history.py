"""Reads what a resuming client missed and the ring no longer holds, from the broker, up to where the ring begins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass

from infra.broker.port import InRecord, Reader, TopicPartition
from infra.failure.metrics import RECORDS_FAILED
from schemas.errors import EventError, EventVersionError
from schemas.topics import DETECTIONS
from sinks.sse.positions import Origin, Position
from sinks.sse.ring import StreamEvent
from sinks.sse.wire import Gap

logger = logging.getLogger(__name__)

GROUP = "sse"
"""What stands in metrics where other sinks have the name of their consumer group; this one reads without a group."""
_CHUNK_RECORDS = 128
_READ_TIMEOUT_S = 1.0
_LOW_END_S = 5.0
_LOW_END_PAUSE_S = 0.25
# Kafka's transaction markers take offsets but are no records, so a stretch may hold nothing to read. One silent read
# could also be a slow broker; after a second one, with the broker answering in between, there is nothing there.
_SILENT_READS = 2


@dataclass(frozen=True, slots=True)
class HistoryPart:
    """Some records of one partition, and the position after them; ``losses`` instead where records are gone."""

    position: Position
    events: tuple[StreamEvent, ...] = ()
    gaps: tuple[Gap, ...] = ()


def move_into_bounds(
    position: Position, bounds: Mapping[int, tuple[int, int]], origin: Origin
) -> tuple[Position, tuple[Gap, ...]]:
    """``position`` moved into ``bounds`` (first and next offset of some partitions), and what that skips."""
    settled = list(position)
    losses: list[Gap] = []
    for partition, (first, following) in bounds.items():
        offset = position[partition]
        if origin == "former" or (offset > following and origin == "unknown"):
            settled[partition] = first
            if offset:
                losses.append(Gap(partition, offset, None, "recreated"))
        elif offset > following:
            settled[partition] = following
            losses.append(Gap(partition, following, offset - 1, "truncated"))
        elif offset < first:
            settled[partition] = first
            losses.append(Gap(partition, offset, first - 1, "retention"))
    return tuple(settled), tuple(losses)


async def steady_bounds(
    reader: Reader, position: Position, origin: Origin, partitions: Collection[int] | None = None
) -> Mapping[int, tuple[int, int]]:
    """The bounds of the topic (of ``partitions``), asked for again while it seems to end before ``position``.

    A leader that has just taken over may tell too low an end for a moment; only one that stays is believed.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + _LOW_END_S
    while True:
        bounds = await reader.bounds(DETECTIONS, partitions)
        low = origin == "this" and any(position[number] > end for number, (_, end) in bounds.items())
        if not low or clock() > deadline:
            return bounds
        await asyncio.sleep(_LOW_END_PAUSE_S)


def read_stream_event(record: InRecord, newer: Callable[[EventVersionError], None] | None = None) -> StreamEvent | None:
    """The entry of ``record``; None, counted and logged, when it is no detection event: the stream goes on.

    ``newer`` is called for an event of a newer version than this program knows, which clients do not get either.
    """
    try:
        return StreamEvent.read(record)
    except (EventError, EventVersionError) as error:
        RECORDS_FAILED.labels(GROUP, record.topic, error.code).inc()
        logger.log(
            logging.ERROR if isinstance(error, EventVersionError) else logging.WARNING,
            "record skipped: %s",
            error,
            extra={"topic": record.topic, "partition": record.partition, "offset": record.offset},
        )
        if isinstance(error, EventVersionError) and newer is not None:
            newer(error)
        return None


async def read_history(
    reader: Reader, position: Position, until: Callable[[], Position], origin: Origin
) -> AsyncGenerator[HistoryPart, None]:
    """What stands between ``position`` and ``until()``, partition after partition, each in order.

    ``until`` may move on while this reads. Raises TransientError; the caller goes on from the last piece. The first
    piece tells what is lost, and where a position of another topic goes on in this one.
    """
    position, losses = move_into_bounds(position, await steady_bounds(reader, position, origin), origin)
    yield HistoryPart(position, gaps=losses)
    for partition in range(len(position)):
        silent = 0
        while position[partition] < (end := until()[partition]):
            source = TopicPartition(DETECTIONS, partition)
            records = await reader.read(
                source, position[partition], max_records=_CHUNK_RECORDS, timeout_s=_READ_TIMEOUT_S
            )
            if not records:
                silent += 1
                # Raises when the broker is away: silence then proves nothing.
                await reader.bounds(DETECTIONS, [partition])
            if silent == _SILENT_READS or (records and records[-1].offset >= end):
                following = end
            else:
                following = records[-1].offset + 1 if records else position[partition]
            wanted = [read_stream_event(record) for record in records if record.offset < end]
            position = (*position[:partition], following, *position[partition + 1 :])
            yield HistoryPart(position, tuple(entry for entry in wanted if entry is not None))
