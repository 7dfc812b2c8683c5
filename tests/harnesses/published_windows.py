"""Reads the windows that were published for the devices of one test."""

from __future__ import annotations

from uuid import UUID

from infra.broker.port import Reader, TopicPartition
from infra.broker.reading import read_between
from schemas.cloudevents import decode
from schemas.statistics_events import StatisticsCounted
from schemas.topics import STATS


class PublishedWindows:
    """Keeps the largest revision of each window of devices whose ids begin with ``prefix``.

    The topic may be that of all tests, so each read goes on where the one before ended.
    """

    def __init__(self, reader: Reader, prefix: str) -> None:
        self._reader = reader
        self._prefix = prefix
        self._next: dict[int, int] = {}
        self._last: dict[UUID, StatisticsCounted] = {}

    async def read(self) -> dict[UUID, StatisticsCounted]:
        """Return the windows with what came since the last call."""
        for partition, (first, end) in (await self._reader.bounds(STATS)).items():
            start = self._next.get(partition, first)
            async for record in read_between(self._reader, TopicPartition(STATS, partition), start, end):
                self._next[partition] = record.offset + 1
                event = decode(record.headers, record.value, StatisticsCounted)
                known = self._last.get(event.window_id)
                if event.device_id.startswith(self._prefix) and (known is None or known.revision <= event.revision):
                    self._last[event.window_id] = event
        return dict(self._last)

    async def close(self) -> None:
        """Close the reader."""
        await self._reader.close()
