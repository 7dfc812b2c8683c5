"""Where one process runs everything, its schema waits for a database that is not there yet."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from infra.database import migrate
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from standgale.services.schema import SchemaMigrator
from tests.harnesses.sink_runs import until
from tests.integration.conftest import Postgres

pytestmark = pytest.mark.integration


async def test_a_database_that_is_missing_at_start_is_waited_for_and_then_migrated(
    postgres: Postgres, tmp_path: Path
) -> None:
    name = f"late_{uuid4().hex}"
    database = Database.open(DatabaseSettings(url=postgres.of(name)), tmp_path)
    keeper = SchemaMigrator(database, RetrySettings(first_delay_s=0.05, max_delay_s=0.2))
    stop, health = asyncio.Event(), Health().part("schema")
    await keeper.try_once()
    running = asyncio.create_task(keeper.run(stop, health))
    try:
        await until(lambda: "migrating the schema" in (health.reason or ""))
        server = await asyncpg.connect(postgres.dsn)
        await server.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        await server.close()
        await until(lambda: health.reason is None)
        assert await asyncio.to_thread(migrate.current_revision, postgres.of(name)) == migrate.newest_revision()
    finally:
        stop.set()
        await running
        await database.close()
