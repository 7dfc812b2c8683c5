"""A process that is frozen in a transaction keeps no row locked for long."""

from __future__ import annotations

import asyncio

import pytest

from infra.database.pool import Database
from infra.database.transaction import transaction
from infra.errors import DatabaseUnavailableError

pytestmark = pytest.mark.integration

LOCK = "SELECT id FROM devices FOR NO KEY UPDATE"


async def test_a_lock_of_a_frozen_process_is_given_back(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.database.transaction.IDLE_LIMIT_S", 0.3)
    async with database.acquire(writing=True) as connection:
        await connection.execute("INSERT INTO devices (id, device_id) VALUES (gen_random_uuid(), 'drone-1')")
    locked, woken = asyncio.Event(), asyncio.Event()

    async def freeze() -> None:
        async with database.acquire(writing=True) as connection, transaction(connection):
            await connection.fetch(LOCK)
            await connection.execute("UPDATE devices SET device_id = 'drone-2'")
            locked.set()
            await woken.wait()
            await connection.execute("UPDATE devices SET device_id = 'drone-3'")

    frozen = asyncio.create_task(freeze())
    await locked.wait()
    async with asyncio.timeout(10), database.acquire(writing=True) as connection, transaction(connection):
        assert len(await connection.fetch(LOCK)) == 1
    woken.set()
    with pytest.raises(DatabaseUnavailableError):
        await frozen
    async with database.acquire() as connection:
        assert await connection.fetchval("SELECT device_id FROM devices") == "drone-1"
        # The limit is that of the transaction, not of the connection.
        assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "0"
