"""C-S1-065, K1: the reading role reads every table but its secrets, and writes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

pytestmark = pytest.mark.integration

_SECRET_TABLES = {
    *("device_tokens", "api_keys", "webhooks", "webhook_deliveries", "outbox", "alembic_version"),
    *("statistics_state", "statistics_counted"),
}
"""Hashes, secrets, addresses that may hold secrets, and what other services keep for themselves."""
_SECRET_COLUMNS = {
    ("inference_jobs", "callback_token"),
    ("inference_jobs", "runner"),
    ("inference_jobs", "leased_until"),
    *(("media_runs", name) for name in ("source", "token", "refresh_token", "refresh_at", "owner", "leased_until")),
    *(("video_sources", name) for name in ("address", "has_login", "options", "lease", "lease_until")),
}
_COLUMNS = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"


@pytest.fixture
async def reader(migrated_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(migrated_dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def test_the_reader_reads_all_columns_but_those_listed_here(reader: asyncpg.Connection) -> None:
    """A new table needs a decision: a grant in its migration, or a place in this list."""
    every = {tuple(row) for row in await reader.fetch(_COLUMNS)}
    await reader.execute("SET ROLE standgale_reader")
    readable = {
        (table, column)
        for table, column in every
        if await reader.fetchval("SELECT has_column_privilege($1, $2, 'SELECT')", table, column)
    }
    hidden = {(table, column) for table, column in every - readable if table not in _SECRET_TABLES}
    assert hidden == _SECRET_COLUMNS
    assert {table for table, _ in readable} & _SECRET_TABLES == set()
    for table, column in sorted(readable):
        await reader.fetch(f"SELECT {column} FROM {table} LIMIT 1")


async def test_the_reader_writes_nothing(reader: asyncpg.Connection) -> None:
    tables = {row[0] for row in await reader.fetch(_COLUMNS)}
    await reader.execute("SET ROLE standgale_reader")
    rights = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")
    checks = "SELECT bool_or(has_table_privilege($1, right_)) FROM unnest($2::text[]) AS right_"
    assert [table for table in sorted(tables) if await reader.fetchval(checks, table, list(rights))] == []
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.execute("CREATE TABLE mine (id int)")
