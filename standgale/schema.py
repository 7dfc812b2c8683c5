"""Keeps the database's schema up to date where one process runs everything."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from infra.database.migrate import migrate_up
from infra.database.pool import Database
from infra.errors import TransientError
from infra.failure.retry import StoppedError, retry
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart


class SchemaKeeper:
    """Migrates the database to the newest revision; a component, because the database may be away for a while."""

    name = "schema"

    def __init__(self, database: Database, retry: RetrySettings) -> None:
        self._database = database
        self._retry = retry
        self._done = False

    async def try_once(self) -> None:
        """Migrate now if the database lets us: then no other component meets a schema that is not there yet."""
        with suppress(TransientError, OSError):
            await self._migrate()

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Migrate if that is still to be done, however long the database is away; then wait for ``stop``."""
        if not self._done:
            with suppress(StoppedError):
                await retry(self._migrate, policy=self._retry, stop=stop, health=health, what="migrating the schema")
        health.set_ready()
        await stop.wait()

    async def _migrate(self) -> None:
        dsn = await self._database.dsn()
        await asyncio.to_thread(migrate_up, dsn)
        self._done = True
