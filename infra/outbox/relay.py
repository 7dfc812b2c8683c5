"""Publishes the events of the outbox, the oldest first, and removes those that are durable in their topic."""

from __future__ import annotations

import asyncio

from infra.broker.limited_publish import publish_within
from infra.broker.port import Publisher
from infra.database.pool import Database
from infra.database.transaction import transaction
from infra.failure.rounds import Rounds, run_rounds
from infra.failure.settings import RetrySettings
from infra.outbox.outbox import remove_records, take_records
from infra.process.health import HealthPart

_MOST = 100
_ROUNDS = Rounds("publishing the outbox", "events wait in the outbox", idle_s=0.5)
_PUBLISH_TIMEOUT_S = 10.0


class OutboxRelay:
    """Is the component that publishes; several may run, and each event is with one of them at a time.

    Killed between the publish and the removal, it publishes an event again, with the same id.
    """

    name = "outbox"

    def __init__(self, database: Database, publisher: Publisher, retry: RetrySettings) -> None:
        self._database = database
        self._publisher = publisher
        self._retry = retry

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Publish until ``stop`` is set. After an error it is not ready, and tries again."""
        await run_rounds(_ROUNDS, self.publish_some, stop, health, self._retry)

    async def publish_some(self) -> int:
        """Publish the oldest events; return how many. Raises the errors of database and broker."""
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            places, records = await take_records(connection, _MOST)
            if records:
                await publish_within(self._publisher, records, _PUBLISH_TIMEOUT_S)
                await remove_records(connection, places)
        return len(records)
