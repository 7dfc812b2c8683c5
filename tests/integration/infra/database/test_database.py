"""Embedded server and pool: ownership, crashes, and how their errors are translated."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from infra.database.embedded import EmbeddedPostgres
from infra.database.error_translation import DatabaseTooSlowError, RowRefusedError, WriteRefusedError
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.errors import DatabaseUnavailableError, RefusedError

pytestmark = pytest.mark.integration


async def test_embedded_postgres_has_one_owner_and_others_attach(server_dir: Path) -> None:
    # A path too long for a socket: it goes elsewhere, and both still find it.
    folder = server_dir / ("a" * 60) / ("b" * 60)
    owner, guest = EmbeddedPostgres(folder), EmbeddedPostgres(folder)
    with pytest.raises(DatabaseUnavailableError, match="not been started"):
        _ = owner.dsn
    # Started side by side, as services are: one creates the cluster, the other waits for it.
    assert len(set(await asyncio.gather(owner.start(), guest.start()))) == 1
    if guest.is_owner:
        owner, guest = guest, owner
    assert [owner.is_owner, guest.is_owner] == [True, False]
    await guest.stop()
    assert await count(owner.dsn) == 0
    assert str(folder) not in owner.dsn
    await owner.stop()
    await owner.stop()
    with pytest.raises(OSError):
        await count(guest.dsn)
    # It has no owner now; the next process that starts it becomes the owner.
    await guest.start()
    assert [owner.is_owner, guest.is_owner] == [False, True]
    assert await count(guest.dsn) == 1
    await guest.stop()
    assert not Path(parse_qs(urlsplit(guest.dsn).query)["host"][0]).exists()


async def count(dsn: str) -> int:
    """How often this was called before on this database."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS calls (at TIMESTAMPTZ DEFAULT now())")
        found: int = await connection.fetchval("SELECT count(*) FROM calls")
        await connection.execute("INSERT INTO calls DEFAULT VALUES")
        return found
    finally:
        await connection.close()


async def test_embedded_postgres_keeps_commits_after_crashes_of_server_and_owner(server_dir: Path) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from infra.database.embedded import EmbeddedPostgres\n"
        "async def main():\n"
        "    print(await EmbeddedPostgres(Path(sys.argv[1])).start(), flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(server_dir), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    dsn = (await process.stdout.readline()).decode().strip()
    assert await count(dsn) == 0
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert await count(dsn) == 1, "the server outlives its owner"
    async with EmbeddedPostgres(server_dir) as heir:
        assert heir.is_owner
        assert heir.dsn == dsn
        await heir.kill()
        with pytest.raises((OSError, asyncpg.PostgresError)):
            await count(dsn)
        assert await heir.start() == dsn
        assert await count(dsn) == 2


async def test_pool_connects_again_after_server_restart(server_dir: Path) -> None:
    async with EmbeddedPostgres(server_dir) as server:
        database = Database.open(DatabaseSettings(url=server.dsn, command_timeout_s=10.0), server_dir)
        try:
            await database.check()
            for crash in (server.stop, server.kill):
                with pytest.raises(DatabaseUnavailableError, match="tried again"):
                    async with database.acquire() as connection, connection.transaction():
                        await crash()
                        await connection.execute("SELECT 1")
                with pytest.raises(DatabaseUnavailableError, match="tried again"):
                    await database.check()
                await server.start()
                await database.check()
        finally:
            await database.close()


async def test_database_without_url_runs_and_stops_embedded_server(server_dir: Path) -> None:
    first, second = (Database.open(DatabaseSettings(), server_dir) for _ in range(2))
    await first.check()
    await second.check()
    dsn = await second.dsn()
    await first.close()
    # Its owner has ended; the second takes over instead of failing.
    await second.check()
    await second.close()
    await second.close()
    with pytest.raises(OSError):
        await asyncpg.connect(dsn)


@pytest.mark.parametrize(
    ("statement", "error", "words"),
    [
        ("SELECT * FROM nowhere", RefusedError, "standgale migrate up"),
        ("SELECT pg_terminate_backend(pg_backend_pid())", DatabaseUnavailableError, "not available"),
        ("SET statement_timeout = 1; SELECT pg_sleep(5)", DatabaseTooSlowError, "57014"),
        ("SET ROLE standgale_reader; DELETE FROM images", RefusedError, "42501"),
        ("INSERT INTO devices (device_id) VALUES (repeat('x', 256))", RowRefusedError, "22001"),
        ("INSERT INTO devices (device_id) VALUES (NULL)", WriteRefusedError, r"devices\.device_id"),
        (
            "INSERT INTO data_annotations (image_id, annotation_type) VALUES (gen_random_uuid(), 'x')",
            WriteRefusedError,
            "image_id_fkey",
        ),
    ],
)
async def test_acquire_translates_errors_by_sqlstate(
    shared_dsn: str, tmp_path: Path, statement: str, error: type[Exception], words: str
) -> None:
    async with opened(shared_dsn, tmp_path) as database:
        with pytest.raises(error, match=words):
            async with database.acquire(writing=True) as connection:
                await connection.execute(statement)
        await database.check()


async def test_acquire_without_writing_raises_refused_error(shared_dsn: str, tmp_path: Path) -> None:
    async with opened(shared_dsn, tmp_path) as database:
        with pytest.raises(RefusedError, match="tried again without a restart"):
            async with database.acquire() as connection:
                await connection.execute("DO $$ BEGIN RAISE EXCEPTION 'closed'; END $$")


async def test_acquire_does_not_translate_misuse(shared_dsn: str, tmp_path: Path) -> None:
    async with opened(shared_dsn, tmp_path) as database:
        with pytest.raises(asyncpg.InterfaceError):
            async with database.acquire() as connection:
                await asyncio.gather(connection.fetch("SELECT pg_sleep(0.2)"), connection.fetch("SELECT 1"))
        with pytest.raises(asyncpg.PostgresSyntaxError):
            async with database.acquire() as connection:
                await connection.execute("SELEKT 1")


async def test_pool_without_free_connection_is_unavailable_and_recovers(shared_dsn: str, tmp_path: Path) -> None:
    async with opened(shared_dsn, tmp_path, pool_max=1, command_timeout_s=2.0) as database:
        async with database.acquire():
            with pytest.raises(DatabaseUnavailableError, match="in time"):
                await database.check()
        await database.check()


async def test_a_statement_that_does_not_end_in_time_is_too_slow(shared_dsn: str, tmp_path: Path) -> None:
    async with opened(shared_dsn, tmp_path, command_timeout_s=0.2) as database:
        await database.check()
        with pytest.raises(DatabaseTooSlowError, match=r"command_timeout_s \(0\.2 s\)"):
            async with database.acquire() as connection:
                await connection.execute("SELECT pg_sleep(30)")
        await database.check()


async def test_a_database_that_does_not_exist_is_waited_for(shared_dsn: str, tmp_path: Path) -> None:
    async with opened(shared_dsn.replace("@/test_", "@/missing_"), tmp_path) as database:
        with pytest.raises(RefusedError, match="create it, or correct STANDGALE_DATABASE__URL"):
            await database.check()


@asynccontextmanager
async def opened(url: str, folder: Path, **settings: float) -> AsyncIterator[Database]:
    database = Database.open(DatabaseSettings.model_validate({"url": url, **settings}), folder)
    try:
        yield database
    finally:
        await database.close()
