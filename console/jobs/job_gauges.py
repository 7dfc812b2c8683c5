"""Counts the jobs that have not ended, for metrics."""

from __future__ import annotations

import asyncio
import logging

from console.metrics import ACTIVE_JOBS, QUEUE_LENGTH
from infra.database.pool import Database
from infra.failure.error_texts import error_code, error_text
from infra.failure.retry import StoppedError, run_until_stop
from infra.process.health import HealthPart
from schemas.errors import StandgaleError

logger = logging.getLogger(__name__)

_EVERY_S = 5.0
_QUEUE = "inference"
_COUNT = """
SELECT count(*) FILTER (WHERE status = 'queued') AS queued, count(*) FILTER (WHERE status = 'processing') AS processing
FROM jobs WHERE finished_at IS NULL
"""


class JobGauges:
    """Is the component that counts; each console of an installation shows the same numbers."""

    name = "job-gauges"

    def __init__(self, database: Database, *, every_s: float = _EVERY_S) -> None:
        self._database = database
        self._every_s = every_s

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Count until ``stop`` is set. While the database is away there are no numbers, rather than outdated ones."""
        health.set_ready()
        failing = False
        while not stop.is_set():
            health.beat()
            try:
                await run_until_stop(self.count(), stop, "counting jobs", timeout_s=1.0)
            except StoppedError:
                return
            except (StandgaleError, OSError) as error:
                ACTIVE_JOBS.clear()
                QUEUE_LENGTH.clear()
                if not failing:
                    logger.warning("jobs cannot be counted: %s", error_text(error), extra={"code": error_code(error)})
                failing = True
            else:
                failing = False
            await health.pause(self._every_s, stop)

    async def count(self) -> None:
        """Set the numbers once. Raises the errors of the database."""
        async with self._database.acquire() as connection:
            row = await connection.fetchrow(_COUNT)
        assert row is not None
        for status in ("queued", "processing"):
            ACTIVE_JOBS.labels(status).set(row[status])
        QUEUE_LENGTH.labels(_QUEUE).set(row["queued"])
