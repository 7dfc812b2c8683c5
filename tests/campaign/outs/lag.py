"""Samples how far each sink is behind, and sums up the samples of a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from infra.broker.port import Admin, Reader, TopicPartition
from infra.broker.reading import read_between
from schemas.cloudevents import decode
from schemas.events import DetectionsMade
from schemas.topics import DETECTIONS
from tests.campaign.outs.listeners import Listeners
from tests.campaign.outs.site import OutsSite

logger = logging.getLogger(__name__)

_EVERY_S = 0.25
_FAILURES = 240


@dataclass(frozen=True)
class Lag:
    """Sums up samples of one sink, in records."""

    p50: int
    p95: int
    most: int

    @classmethod
    def of(cls, values: Iterable[int]) -> Lag:
        """Sum up ``values``."""
        found = sorted(values) or [0]
        return cls(found[len(found) // 2], found[min(len(found) - 1, int(0.95 * len(found)))], found[-1])


@dataclass
class LagWatch:
    """Keeps the lag of each sink over time: what its groups have not committed.

    The live stream has no group: its lag is what a client that reads has not got yet of what there is for it.
    """

    site: OutsSite
    listeners: Listeners
    samples: list[tuple[float, Mapping[str, int]]] = field(default_factory=list)
    _sampled: asyncio.Event = field(default_factory=asyncio.Event)
    _live: int = 0
    _read: dict[int, int] = field(default_factory=dict)

    async def watch(self) -> None:
        """Sample until cancelled. Raises the broker's error when it fails for long."""
        failed = 0
        async with self._opened() as (admin, reader):
            while True:
                try:
                    began = time.monotonic()
                    self.samples.append((began, await self._sample(admin, reader)))
                    self._sampled.set()
                    failed = 0
                except Exception:
                    failed += 1
                    if failed > _FAILURES:
                        raise
                    logger.debug("the lag is not known", exc_info=True)
                await asyncio.sleep(_EVERY_S)

    async def next(self) -> Mapping[str, int]:
        """Return the next sample that begins after this call."""
        asked_at = time.monotonic()
        while not self.samples or self.samples[-1][0] <= asked_at:
            self._sampled.clear()
            await self._sampled.wait()
        return self.samples[-1][1]

    def between(self, begin: float, end: float) -> dict[str, Lag]:
        """Sum up the samples of a time, by sink."""
        found = [lags for at, lags in self.samples if begin <= at <= end]
        return {name: Lag.of(lags[name] for lags in found) for name in self.site.sinks}

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[tuple[Admin, Reader]]:
        async with self.site.broker.open_client() as broker:
            admin, reader = await broker.admin(), await broker.reader()
            try:
                yield admin, reader
            finally:
                await reader.close()
                await admin.close()

    async def _sample(self, admin: Admin, reader: Reader) -> Mapping[str, int]:
        groups = self.site.groups
        lags = await asyncio.gather(*(_group_lag(admin, each) for each in groups.values()))
        found = dict(zip(groups, lags, strict=True))
        if "sse" in found:
            await self._count_live(reader)
            found["sse"] = max((0, *(self._live - client.seen for client in self.listeners.clients)))
        return found

    async def _count_live(self, reader: Reader) -> None:
        """Count the events for everybody that have come since the last call; those of jobs belong to their clients."""
        for partition, (first, end) in (await reader.bounds(DETECTIONS)).items():
            begin = self._read.get(partition, first)
            async for record in read_between(reader, TopicPartition(DETECTIONS, partition), begin, end):
                self._live += decode(record.headers, record.value, DetectionsMade).job_id is None
                self._read[partition] = record.offset + 1


async def _group_lag(admin: Admin, groups: Mapping[str, Sequence[str]]) -> int:
    lags = await asyncio.gather(*(admin.group_lag(group, topics) for group, topics in groups.items()))
    return sum(sum(each.values()) for each in lags)
