"""Writes annotations that came back from the Annotations service to the table data_annotations."""

from __future__ import annotations

import asyncio

from infra.database.pool import Database
from infra.database.transaction import transaction
from infra.failure.rounds import Rounds, run_rounds
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from sinks.annotations.records import store_returned

_AT_ONCE = 100


class ReturnedAnnotations:
    """Is the component that writes them, once the rows of their images are there; several processes may run it."""

    name = "annotations-returned"

    def __init__(self, database: Database, interval_s: float, retry: RetrySettings) -> None:
        self._rounds = Rounds("storing annotations", "annotations that came back wait", interval_s)
        self._database = database
        self._retry = retry

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Write until ``stop`` is set; an error is shown and tried again."""
        await run_rounds(self._rounds, self.work, stop, health, self._retry)

    async def work(self) -> int:
        """Write what can be written; return of how many posts. Raises the errors of the database."""
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            return await store_returned(connection, _AT_ONCE)
