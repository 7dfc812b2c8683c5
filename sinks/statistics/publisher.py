"""Publishes the windows that have changed, each some seconds after its first change."""

from __future__ import annotations

import asyncio
from typing import Any

from infra.broker.limited_publish import publish_within
from infra.broker.port import Publisher
from infra.database.pool import Database
from infra.failure.rounds import Rounds, run_rounds
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from sinks.metrics import STATISTICS_WINDOWS
from sinks.statistics.counts import Window
from sinks.statistics.report import statistics_record
from sinks.statistics.settings import StatisticsSettings
from sinks.statistics.state import counts_from_text
from sinks.statistics.statements import NOTE_PUBLISHED, UNPUBLISHED

_MOST = 100
_PUBLISH_TIMEOUT_S = 10.0


class StatisticsPublisher:
    """Is the component that publishes; several may run.

    After a crash, or beside another process, it may publish a window twice, with the same id and revision. No row is
    locked while it publishes, so a slow broker does not stop the counting.
    """

    name = "statistics-publisher"

    def __init__(
        self, database: Database, publisher: Publisher, settings: StatisticsSettings, retry: RetrySettings
    ) -> None:
        every_s = settings.publish_s
        self._rounds = Rounds("publishing statistics", "statistics wait to be published", every_s, every_s)
        self._database = database
        self._publisher = publisher
        self._retry = retry

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Publish until ``stop`` is set. After an error it is not ready, and tries again."""

        async def publish_all() -> int:
            published = 0
            while (some := await self.publish_some()) and not stop.is_set():
                published += some
                health.beat()
                if some < _MOST:
                    break
            return published

        await run_rounds(self._rounds, publish_all, stop, health, self._retry)

    async def publish_some(self) -> int:
        """Publish the windows that have waited longest; return how many. Raises the errors of database and broker."""
        async with self._database.acquire() as connection:
            rows: list[Any] = await connection.fetch(UNPUBLISHED, _MOST)
        if not rows:
            return 0
        found = {}
        for row in rows:
            window = Window(row["device_id"], row["minute"], row["model_name"], row["model_version"], row["source"])
            found[row["window_id"]] = (window, counts_from_text(row["counts"]))
        await publish_within(self._publisher, [statistics_record(*each) for each in found.values()], _PUBLISH_TIMEOUT_S)
        async with self._database.acquire(writing=True) as connection:
            await connection.execute(NOTE_PUBLISHED, list(found), [counts.frames for _, counts in found.values()])
        STATISTICS_WINDOWS.inc(len(rows))
        return len(rows)
