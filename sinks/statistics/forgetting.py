"""Forgets which events were counted, once no topic has them any more, and windows after the days of the settings."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from infra.database.pool import Database
from infra.database.results import rows_changed
from infra.failure.rounds import Rounds, run_rounds
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from sinks.statistics.settings import StatisticsSettings
from sinks.statistics.statements import FORGET_COUNTED, FORGET_STATE, FORGET_WINDOWS

_MOST = 5_000
# A broker deletes whole segments, so some records stay longer than the retention of their topic.
_RETENTION_MARGIN = timedelta(days=8)


class StatisticsForgetting:
    """Is the component that forgets, some thousand rows at a time.

    ``retention_s`` is that of the topic ``detections``: an event that was counted longer ago comes from it no more.
    """

    name = "statistics-forgetting"

    def __init__(
        self, database: Database, settings: StatisticsSettings, retention_s: int, retry: RetrySettings
    ) -> None:
        self._rounds = Rounds(
            "forgetting statistics", "outdated statistics are still there", 600.0, 1.0, ready_in_spite=True
        )
        self._database = database
        self._retry = retry
        self._keep = timedelta(days=settings.keep_days)
        self._keep_counted = timedelta(seconds=retention_s) + _RETENTION_MARGIN

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Forget until ``stop`` is set; an error is shown and tried again."""
        await run_rounds(self._rounds, self.forget_some, stop, health, self._retry)

    async def forget_some(self) -> int:
        """Forget what is due, the oldest first; return how many rows. Raises the errors of the database."""
        removed = 0
        async with self._database.acquire(writing=True) as connection:
            for statement, keep in (
                (FORGET_COUNTED, self._keep_counted),
                (FORGET_STATE, self._keep),
                (FORGET_WINDOWS, self._keep),
            ):
                done = await connection.execute(statement, keep, _MOST)
                removed += rows_changed(done)
        return removed
