"""Migrations on a real PostgreSQL: up, down, up again, in parallel, and refusals."""

from __future__ import annotations

import asyncio
import sys
from uuid import uuid4

import asyncpg
import pytest

from infra.database import migrate
from infra.errors import DatabaseUnavailableError, SettingsError

pytestmark = pytest.mark.integration

_SHAPE = """
SELECT 'column', table_name, column_name, data_type, coalesce(character_maximum_length::text, ''), is_nullable,
       coalesce(column_default, '')
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL
SELECT 'index', tablename, indexname, indexdef, '', '', '' FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', ''
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT 'grant', table_name, grantee, privilege_type, '', '', ''
FROM information_schema.role_table_grants WHERE table_schema = 'public'
UNION ALL
SELECT 'column grant', table_name, grantee, column_name, '', '', ''
FROM information_schema.column_privileges WHERE table_schema = 'public' AND grantee = 'standgale_reader'
ORDER BY 1, 2, 3, 4
"""


async def shape(dsn: str) -> list[tuple[str, ...]]:
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await connection.fetch(_SHAPE) if row[1] != "alembic_version"]
    finally:
        await connection.close()


async def up(dsn: str, revision: str = "head") -> None:
    await asyncio.to_thread(migrate.migrate_up, dsn, revision)


async def down(dsn: str, revision: str) -> None:
    await asyncio.to_thread(migrate.migrate_down, dsn, revision)


async def current(dsn: str) -> str | None:
    return await asyncio.to_thread(migrate.current_revision, dsn)


async def test_up_down_and_up_again_gives_the_same_schema(empty_dsn: str) -> None:
    assert await current(empty_dsn) is None
    await up(empty_dsn)
    assert await current(empty_dsn) == migrate.newest_revision()
    first = await shape(empty_dsn)
    tables = {row[1] for row in first}
    assert tables >= {"devices", "images", "detections", "inference_sessions", "system_metrics", "data_annotations"}
    await down(empty_dsn, "base")
    assert await current(empty_dsn) is None
    assert await shape(empty_dsn) == []
    await up(empty_dsn)
    assert await shape(empty_dsn) == first


async def test_each_step_has_a_way_back(empty_dsn: str) -> None:
    shapes = [await shape(empty_dsn)]
    head, steps = migrate.newest_revision(), 0
    while await current(empty_dsn) != head:
        await up(empty_dsn, "+1")
        shapes.append(await shape(empty_dsn))
        steps += 1
    for _ in range(steps):
        assert await shape(empty_dsn) == shapes.pop()
        await down(empty_dsn, "-1")
    assert await shape(empty_dsn) == shapes.pop()


async def test_processes_that_migrate_at_once_do_not_collide(empty_dsn: str) -> None:
    code = "import sys; from infra.database import migrate; migrate.migrate_up(sys.argv[1])"
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", code, empty_dsn, stderr=asyncio.subprocess.PIPE)
        for _ in range(2)
    ]
    for process in processes:
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
    assert await current(empty_dsn) == migrate.newest_revision()


async def test_the_reader_reads_everything_but_tokens_and_writes_nothing(migrated_dsn: str) -> None:
    connection = await asyncpg.connect(migrated_dsn)
    try:
        await connection.execute("SET ROLE standgale_reader")
        readable = ("devices", "images", "detections", "inference_sessions", "system_metrics", "data_annotations")
        for table in (*readable, "flights"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM device_tokens")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("DELETE FROM images")
    finally:
        await connection.close()


async def test_a_step_back_from_flights_keeps_detected_images(empty_dsn: str) -> None:
    """I14: an older program knows no images that are pending or failed, and finds all that were detected."""
    await up(empty_dsn)
    admin = await asyncpg.connect(empty_dsn)
    try:
        device = await admin.fetchval("INSERT INTO devices (device_id) VALUES ('drone-1') RETURNING id")
        await admin.execute("INSERT INTO flights (device_id, flight_id) VALUES ($1, 'north')", device)
        for status in ("pending", "failed", "completed"):
            await admin.execute(
                "INSERT INTO images (device_id, image_uri, sha256, captured_at, width, height, format, size_bytes, "
                "processing_status, flight_id) VALUES ($1, 'file:///x', 'x', now(), 1, 1, 'jpeg', 1, $2, 'north')",
                device,
                status,
            )
        await down(empty_dsn, "0004")
        assert [row[0] for row in await admin.fetch("SELECT processing_status FROM images")] == ["completed"]
        await up(empty_dsn)
        assert await admin.fetchval("SELECT count(*) FROM images WHERE flight_id IS NULL") == 1
    finally:
        await admin.close()


async def test_a_user_who_may_not_create_roles_can_migrate(empty_dsn: str) -> None:
    name = f"plain_{uuid4().hex}"
    admin = await asyncpg.connect(empty_dsn)
    try:
        await admin.execute(f"CREATE ROLE {name} LOGIN; GRANT ALL ON SCHEMA public TO {name}")
        # As on a server without the role: it is renamed for a moment.
        await admin.execute("ALTER ROLE standgale_reader RENAME TO standgale_reader_away")
        try:
            await up(empty_dsn.replace("standgale@", f"{name}@"))
        finally:
            await admin.execute("ALTER ROLE standgale_reader_away RENAME TO standgale_reader")
        assert await current(empty_dsn) == migrate.newest_revision()
        await down(empty_dsn.replace("standgale@", f"{name}@"), "base")
    finally:
        await admin.close()


async def test_an_unknown_revision_is_named(empty_dsn: str) -> None:
    with pytest.raises(SettingsError, match=r"9999.*known revisions"):
        await up(empty_dsn, "9999")


async def test_migrate_up_without_server_raises_database_unavailable() -> None:
    with pytest.raises(DatabaseUnavailableError, match=r"127\.0\.0\.1:1/x") as caught:
        await up("postgresql://somebody:hush@127.0.0.1:1/x")
    assert "hush" not in str(caught.value)


async def test_migrate_refuses_wrong_url_without_showing_it() -> None:
    for url in ("mysql://user:hush@host/x", "postgresql://user:hush@host:port/x", "postgresql://user:hush@host"):
        with pytest.raises(SettingsError, match="STANDGALE_DATABASE__URL") as caught:
            await up(url)
        assert "hush" not in str(caught.value)
