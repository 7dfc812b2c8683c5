"""Counts the jobs that have not ended, for metrics."""

from __future__ import annotations

import asyncio

from console.metrics import ACTIVE_JOBS, QUEUE_LENGTH
from infra.database.pool import Database
from infra.failure.rounds import Rounds, run_rounds
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from schemas.errors import StandgaleError

_EVERY_S = 5.0
_QUEUE = "inference"
_COUNT = """
SELECT count(*) FILTER (WHERE status = 'queued') AS queued, count(*) FILTER (WHERE status = 'processing') AS processing
FROM jobs WHERE finished_at IS NULL
"""


class JobGauges:
    """Is the component that counts; each console of an installation shows the same numbers."""

    name = "job-gauges"

    def __init__(self, database: Database, retry: RetrySettings, *, every_s: float = _EVERY_S) -> None:
        self._database = database
        self._retry = retry
        self._rounds = Rounds("counting jobs", "jobs are not counted", every_s, ready_in_spite=True)

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Count until ``stop`` is set. While the database is away there are no numbers, rather than outdated ones."""
        await run_rounds(self._rounds, self._count_or_clear, stop, health, self._retry)

    async def _count_or_clear(self) -> int:
        try:
            await self.count()
        except (StandgaleError, OSError):
            ACTIVE_JOBS.clear()
            QUEUE_LENGTH.clear()
            raise
        return 0

    async def count(self) -> None:
        """Set the numbers once. Raises the errors of the database."""
        async with self._database.acquire() as connection:
            row = await connection.fetchrow(_COUNT)
        assert row is not None
        for status in ("queued", "processing"):
            ACTIVE_JOBS.labels(status).set(row[status])
        QUEUE_LENGTH.labels(_QUEUE).set(row["queued"])
