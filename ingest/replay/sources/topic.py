"""Replays the frames of a time range of a topic: publishes their events again; pictures are not stored again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from infra.broker.port import InRecord, Reader, TopicPartition
from infra.broker.reading import respond_within
from infra.errors import TransientError
from ingest.replay.errors import RefusedItemError, SourceError, SourceUnavailableError
from ingest.replay.port import Content, Item, Totals, refused
from schemas.cloudevents import decode
from schemas.errors import EventError, EventVersionError
from schemas.events import FrameCaptured
from schemas.timestamps import format_utc

T = TypeVar("T")

_BATCH = 200
# The times of records of several producers are not quite in order.
_SLACK_MS = 60_000


class TopicSource:
    """Reads the frames that were published from ``since`` up to, without, ``until``, by the broker's time."""

    def __init__(
        self, reader: Reader, topic: str, since: datetime, until: datetime, device: str | None, timeout_s: float
    ) -> None:
        """``device``: only its frames; None: those of all devices."""
        self._reader = reader
        self._topic = topic
        self._since, self._until = since, until
        self._device = device
        self._timeout_s = timeout_s

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """Topic, times and device."""
        return {
            "kind": "topic",
            "address": self._topic,
            "since": self._since.isoformat(),
            "until": self._until.isoformat(),
            "device": self._device,
        }

    async def deleted_before(self) -> Sequence[str]:
        """Return a sentence if records of the range may have been deleted. Raises SourceUnavailableError."""
        oldest = [
            found[0].timestamp_ms
            for partition, (begin, end) in (await self._bounds()).items()
            if 0 < begin < end and (found := await self._read(partition, begin, 1))
        ]
        if not oldest or max(oldest) <= self._ms(self._since):
            return ()
        moment = format_utc(datetime.fromtimestamp(max(oldest) / 1_000, UTC))
        return (
            f"retention has deleted the oldest records of {self._topic}: frames before {moment} are not all there any "
            f"more, and --from is {format_utc(self._since)}",
        )

    async def items(self, after: str | None) -> AsyncGenerator[Item, None]:
        """Yield the frames by partition, each in the order of its offsets.

        A position is partition, offset and the record's time, by which a topic that was made anew is noticed.
        """
        at, offset, *moment = (int(part) for part in after.split(":")) if after else (-1, -1)
        bounds = await self._bounds()
        first, end = bounds.get(at, (0, 0))
        if end <= offset or (moment and not await self._is_same(at, offset, *moment, first=first)):
            raise SourceError(
                f"partition {at} of {self._topic} does not have what was replayed up to offset {offset}: the topic was "
                "emptied or made anew, and the rest of it is gone. --restart begins with what is there"
            )
        for partition, (begin, end) in sorted(bounds.items()):
            if partition < at:
                continue
            if partition == at and begin > offset + 1:
                yield self._deleted(partition, offset + 1, begin)
            first = offset + 1 if partition == at else await self._first_offset(partition, begin, end)
            async for record in self._records(partition, max(first, begin), end):
                if record.key == self._device or self._device is None:
                    place = f"{partition}:{record.offset}"
                    yield Item(f"{place}:{record.timestamp_ms}", f"{self._topic} {place}", _loader(record))

    def _deleted(self, partition: int, first: int, begin: int) -> Item:
        """Return the refusal of records that were deleted before they were read."""
        place = f"{partition}:{begin - 1}"
        return refused(
            place,
            f"{self._topic} {partition}:{first} to {place}",
            "DELETED",
            f"retention deleted {begin - first} records before they were replayed",
        )

    async def _is_same(self, partition: int, offset: int, timestamp_ms: int, *, first: int) -> bool:
        """Return whether the partition has that record, or, when it was deleted, later ones; ``first``: its begin."""
        found = await self._read(partition, max(offset, first), 1)
        if not found or found[0].offset > offset:
            return not found or found[0].timestamp_ms > timestamp_ms - _SLACK_MS
        return found[0].timestamp_ms == timestamp_ms

    async def count(self) -> Totals | None:
        """Return how many records the range has at most."""
        total = 0
        for partition, (begin, end) in (await self._bounds()).items():
            last = await self._first_offset(partition, begin, end, self._ms(self._until))
            total += max(0, last - await self._first_offset(partition, begin, end))
        return Totals(total) if self._device is None else None

    async def close(self) -> None:
        """Do nothing: the reader is the caller's."""

    async def _bounds(self) -> Mapping[int, tuple[int, int]]:
        return await self._asked(self._reader.bounds(self._topic))

    async def _records(self, partition: int, first: int, end: int) -> AsyncIterator[InRecord]:
        since, until = self._ms(self._since), self._ms(self._until)
        while first < end:
            records = await self._read(partition, first, _BATCH)
            if not records:
                return
            for record in records:
                if record.offset >= end or record.timestamp_ms >= until + _SLACK_MS:
                    return
                if since <= record.timestamp_ms < until:
                    yield record
            first = records[-1].offset + 1

    async def _first_offset(self, partition: int, begin: int, end: int, moment_ms: int | None = None) -> int:
        """Return where records as new as ``moment_ms``, by default the begin of the range, may begin; by bisection."""
        wanted = self._ms(self._since) - _SLACK_MS if moment_ms is None else moment_ms
        while begin < end:
            middle = (begin + end) // 2
            found = await self._read(partition, middle, 1)
            if not found or found[0].timestamp_ms >= wanted:
                end = middle
            else:
                begin = found[0].offset + 1
        return begin

    async def _read(self, partition: int, first: int, most: int) -> Sequence[InRecord]:
        place = TopicPartition(self._topic, partition)
        return await self._asked(self._reader.read(place, first, max_records=most, timeout_s=0))

    async def _asked(self, call: Awaitable[T]) -> T:
        try:
            return await respond_within(call, self._timeout_s, f"reading {self._topic}")
        except TransientError as error:
            raise SourceUnavailableError(str(error)) from error

    @staticmethod
    def _ms(moment: datetime) -> int:
        return round(moment.timestamp() * 1_000)


def _loader(record: InRecord) -> Callable[[], Awaitable[Content]]:
    async def load() -> Content:
        try:
            return decode(record.headers, record.value, FrameCaptured)
        except (EventError, EventVersionError) as error:
            raise RefusedItemError("INVALID_EVENT", str(error)) from error

    return load
