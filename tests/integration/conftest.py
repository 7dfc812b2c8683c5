"""Real servers for the integration tests, started once for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import asyncpg
import pytest

from infra.database import migrate
from infra.database.embedded import EmbeddedPostgres
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.deploy.kafka import KafkaServer
from infra.deploy.s3 import S3Server
from tests.harnesses.topic_pair import TopicPair

_TEMPLATE = "migrated"
_EMPTY = (
    "TRUNCATE devices, system_metrics, api_clients, outbox, retention_intents, retention_owner, retention_snapshots, "
    "retention_runs, retention_pins, archive_pending CASCADE"
)


@dataclass(frozen=True)
class Postgres:
    """A running server, and databases on it."""

    dsn: str

    def of(self, database: str) -> str:
        """The DSN of another database of this server."""
        return self.dsn.replace("@/standgale?", f"@/{database}?")

    async def create(self, *, migrated: bool) -> str:
        """A new database; copying a migrated one is ten times as fast as migrating."""
        name = f"test_{uuid4().hex}"
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE if migrated else 'template0'}")
        finally:
            await connection.close()
        return self.of(name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL server for the whole run."""
    with TemporaryDirectory(prefix="standgale-test-", ignore_cleanup_errors=True) as folder:
        yield from _running(EmbeddedPostgres(Path(folder)))


def _running(server: EmbeddedPostgres) -> Iterator[Postgres]:
    found = Postgres(asyncio.run(server.start()))
    asyncio.run(_create_template(found))
    migrate.migrate_up(found.of(_TEMPLATE))
    yield found
    # Not stop(): writing everything to disk takes seconds, and nobody needs these files again.
    asyncio.run(server.kill())


async def _create_template(server: Postgres) -> None:
    connection = await asyncpg.connect(server.dsn)
    await connection.execute(f"CREATE DATABASE {_TEMPLATE}")
    await connection.close()


@pytest.fixture
async def empty_dsn(postgres: Postgres) -> str:
    """A database of this test's own, without any schema."""
    return await postgres.create(migrated=False)


@pytest.fixture
async def migrated_dsn(postgres: Postgres) -> str:
    """A database of this test's own, at the newest revision."""
    return await postgres.create(migrated=True)


@pytest.fixture(scope="session")
def shared_dsn(postgres: Postgres) -> str:
    """A migrated database that the tests of :func:`database` use one after the other."""
    return asyncio.run(postgres.create(migrated=True))


@pytest.fixture
async def database(shared_dsn: str, tmp_path: Path) -> AsyncIterator[Database]:
    """A pool on a migrated database without any rows."""
    opened = Database.open(DatabaseSettings(url=shared_dsn), tmp_path)
    async with opened.acquire() as connection:
        await connection.execute(_EMPTY)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server for the whole run; use a prefix of your own, and leave it running."""
    with S3Server(tmp_path_factory.mktemp("s3") / "buckets") as server:
        yield server


@pytest.fixture
async def pair(kafka_server: KafkaServer) -> AsyncIterator[TopicPair]:
    """An input and an output topic of this test's own on the real Kafka of the run."""
    async with TopicPair(kafka_server).open() as pair:
        yield pair
