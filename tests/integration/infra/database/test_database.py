"""Embedded server and pool: users, crashes, and how their errors are translated."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import psutil
import pytest

from infra.database.embedded import EmbeddedPostgres
from infra.database.error_translation import DatabaseTooSlowError, RowRefusedError, WriteRefusedError
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.errors import DatabaseUnavailableError, RefusedError, SettingsError

pytestmark = pytest.mark.integration


async def test_embedded_postgres_is_shared_and_stopped_by_its_last_user(server_dir: Path) -> None:
    # A path too long for a socket: it goes elsewhere, and both still find it.
    folder = server_dir / ("a" * 60) / ("b" * 60)
    first, second = EmbeddedPostgres(folder), EmbeddedPostgres(folder)
    with pytest.raises(DatabaseUnavailableError, match="not been started"):
        _ = first.dsn
    # Started side by side, as services are: one creates the cluster, the other waits for it.
    assert len(set(await asyncio.gather(first.start(), second.start()))) == 1
    await first.stop()
    await first.stop()
    assert await count(second.dsn) == 0
    assert str(folder) not in second.dsn
    await second.stop()
    with pytest.raises(OSError):
        await count(second.dsn)
    await first.start()
    assert await count(first.dsn) == 1
    await first.stop()
    assert not Path(parse_qs(urlsplit(first.dsn).query)["host"][0]).exists()


async def test_embedded_postgres_is_not_begun_with_too_few_open_files(
    server_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.database.embedded.why_too_few_open_files", lambda: "24 open files")
    server = EmbeddedPostgres(server_dir)
    with pytest.raises(SettingsError, match="the embedded database is not started: 24 open files"):
        await server.start()
    await server.stop()
    assert not (server_dir / "postgres" / "cluster").exists()


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


_USER = """
import asyncio, sys
from pathlib import Path
from infra.database.embedded import EmbeddedPostgres

async def main():
    print("starts", flush=True)
    print(await EmbeddedPostgres(Path(sys.argv[1])).start(), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def user_process(folder: Path) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
    """Start a process that uses the embedded server of ``folder``; returns it when it begins to."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _USER, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"starts\n"
    return process, process.stdout


async def kill(process: asyncio.subprocess.Process) -> None:
    process.kill()
    await process.wait()


def servers_of(folder: Path) -> list[psutil.Process]:
    """The processes of the embedded server of ``folder``, its keeper and the programs that create its files."""
    named = (each for each in psutil.process_iter(["cmdline"]) if each.pid != os.getpid())
    return [each for each in named if any(str(folder / "postgres") in word for word in each.info["cmdline"] or ())]


async def none_left_of(folder: Path) -> None:
    deadline = time.monotonic() + 20
    while left := servers_of(folder):
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.05)


async def test_embedded_postgres_ends_when_its_last_user_is_killed(server_dir: Path) -> None:
    (first, first_output), (second, second_output) = await user_process(server_dir), await user_process(server_dir)
    dsn = (await first_output.readline()).decode().strip()
    assert (await second_output.readline()).decode().strip() == dsn
    assert await count(dsn) == 0
    await kill(first)
    assert await count(dsn) == 1, "the second process still uses it"
    await kill(second)
    # Started again at once, while the former server is being stopped.
    async with EmbeddedPostgres(server_dir) as third:
        assert third.dsn == dsn
        assert await count(dsn) == 2
        await third.kill()
        with pytest.raises((OSError, asyncpg.PostgresError)):
            await count(dsn)
        assert await third.start() == dsn
        assert await count(dsn) == 3
    assert servers_of(server_dir) == []
    fourth, output = await user_process(server_dir)
    assert await output.readline()
    await kill(fourth)
    await none_left_of(server_dir)


@pytest.mark.parametrize("after_s", [0.05, 0.5])
async def test_embedded_postgres_starts_after_a_kill_during_its_creation(server_dir: Path, after_s: float) -> None:
    process, _ = await user_process(server_dir)
    await asyncio.sleep(after_s)
    await kill(process)
    async with EmbeddedPostgres(server_dir) as server:
        assert await count(server.dsn) == 0
    assert servers_of(server_dir) == []


async def test_stop_during_the_creation_ends_it_and_leaves_no_process(server_dir: Path) -> None:
    server = EmbeddedPostgres(server_dir)
    starting = asyncio.create_task(server.start())
    while not servers_of(server_dir):  # noqa: ASYNC110 (of other processes)
        await asyncio.sleep(0.01)
    await server.stop()
    with pytest.raises(DatabaseUnavailableError, match=r"stopped at its creation|was ended"):
        await starting
    await none_left_of(server_dir)
    async with server:
        assert await count(server.dsn) == 0


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
