"""Finds at the end of the backfill topic which frames were published before a failure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from infra.broker.partitioning import partition_for
from infra.broker.port import Reader, TopicPartition
from infra.broker.reading import read_between, respond_within
from schemas.cloudevents import header
from schemas.errors import EventError
from schemas.topics import FRAMES_BACKFILL


class BackfillTail:
    """Reads the ends of the partitions of the backfill topic."""

    def __init__(self, reader: Reader, partitions: int, timeout_s: float) -> None:
        self._reader = reader
        self._partitions = partitions
        self._timeout_s = timeout_s

    async def ends(self, devices: Collection[str]) -> Mapping[str, int]:
        """Return where the partitions of ``devices`` end now, by their number. Raises BrokerUnavailableError."""
        wanted = {partition_for(device, self._partitions) for device in devices}
        found = await self._bounds(wanted)
        return {str(partition): end for partition, (_, end) in found.items() if partition in wanted}

    async def lost(self, reached: Mapping[str, int]) -> set[str]:
        """Return those partitions that end before where they ended already. Raises BrokerUnavailableError."""
        found = await self._bounds({int(each) for each in reached})
        return {each for each, end in reached.items() if found.get(int(each), (0, 0))[1] < end}

    async def published(self, frames: Collection[UUID], since: Mapping[str, int]) -> set[UUID]:
        """Return those of ``frames`` that are in the topic, from the ends ``since`` on. Raises TransientError."""
        wanted = {str(each) for each in frames}
        found: set[UUID] = set()
        if not wanted or not since:
            return found
        bounds = await self._bounds({int(each) for each in since})
        for partition, end in since.items():
            begin, now = bounds.get(int(partition), (0, 0))
            place = TopicPartition(FRAMES_BACKFILL, int(partition))
            async for record in read_between(self._reader, place, max(begin, end), now):
                try:
                    frame = header(record.headers, "ce_subject")
                except EventError:
                    continue
                if frame in wanted:
                    found.add(UUID(frame))
                    if len(found) == len(wanted):
                        return found
        return found

    async def _bounds(self, partitions: set[int]) -> Mapping[int, tuple[int, int]]:
        call = self._reader.bounds(FRAMES_BACKFILL, partitions)
        return await respond_within(call, self._timeout_s, f"reading the ends of {FRAMES_BACKFILL}")
