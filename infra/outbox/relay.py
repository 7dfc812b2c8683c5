"""Publishes the events of the outbox, the oldest first, and removes those that are durable in their topic."""

from __future__ import annotations

import asyncio
import logging

from infra.broker.port import Publisher
from infra.database.pool import Database
from infra.failure.backoff import Backoff
from infra.failure.error_texts import error_code, error_text
from infra.failure.retry import StoppedError, run_until_stop
from infra.failure.settings import RetrySettings
from infra.outbox.outbox import remove_records, take_records
from infra.process.health import HealthPart
from schemas.errors import StandgaleError

logger = logging.getLogger(__name__)

_MOST = 100
_IDLE_S = 0.5
_PUBLISH_TIMEOUT_S = 10.0


class OutboxRelay:
    """Is the component that publishes; several may run, and each event is with one of them at a time.

    Killed between the publish and the removal, it publishes an event again, with the same id.
    """

    name = "outbox"

    def __init__(self, database: Database, publisher: Publisher, retry: RetrySettings) -> None:
        self._database = database
        self._publisher = publisher
        self._backoff = Backoff(retry)

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Publish until ``stop`` is set. After an error it is not ready, and tries again."""
        failing = False
        while not stop.is_set():
            health.beat()
            try:
                published = await run_until_stop(self.publish_some(), stop, "publishing the outbox", timeout_s=5.0)
            except StoppedError:
                return
            except (StandgaleError, OSError) as error:
                health.set_not_ready(error_text(error))
                if not failing:
                    logger.warning(
                        "events wait in the outbox: %s", error_text(error), extra={"code": error_code(error)}
                    )
                failing = True
                await self._backoff.wait(stop)
                continue
            if failing:
                logger.info("events of the outbox are published again")
            failing = False
            self._backoff.reset()
            health.set_ready()
            if not published:
                await health.pause(_IDLE_S, stop)

    async def publish_some(self) -> int:
        """Publish the oldest events; return how many. Raises the errors of database and broker."""
        async with self._database.acquire(writing=True) as connection, connection.transaction():
            places, records = await take_records(connection, _MOST)
            if records:
                async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
                    await self._publisher.publish(records)
                await remove_records(connection, places)
        return len(records)
