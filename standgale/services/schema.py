"""Migrates the database where one process runs all services."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from infra.database.pool import Database
from infra.errors import TransientError
from infra.failure.retry import StoppedError, retry
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart


class SchemaMigrator:
    """Migrates the database to the newest revision, as a component: the database may be unavailable at first."""

    name = "schema"

    def __init__(self, database: Database, retry: RetrySettings) -> None:
        self._database = database
        self._retry = retry
        self._done = False

    async def try_once(self) -> None:
        """Migrate now if the database is available, so that no other component meets a missing schema."""
        with suppress(TransientError, OSError):
            await self._migrate()

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Migrate if that was not done yet, as soon as the database is available; then wait for ``stop``."""
        if not self._done:
            with suppress(StoppedError):
                await retry(self._migrate, policy=self._retry, stop=stop, health=health, what="migrating the schema")
        health.set_ready()
        await stop.wait()

    async def _migrate(self) -> None:
        # Alembic takes half a second to import, and most processes never migrate.
        from infra.database.migrate import migrate_up  # noqa: PLC0415

        dsn = await self._database.dsn()
        await asyncio.to_thread(migrate_up, dsn)
        self._done = True
