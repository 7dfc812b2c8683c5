"""Deliveries are added in a time that grows with their number, and each web-hook has its own limit."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from infra.database.pool import Database
from sinks.webhooks.records import NewDelivery, add_deliveries
from tests.servers.console import running_console

pytestmark = pytest.mark.integration

_INSERT = """
INSERT INTO webhooks (id, webhook_id, client_id, url, events, conditions, secret)
SELECT id, 'whk_' || place, 'desktop', 'https://example.org/', '{}', '{}', '' FROM unnest($1::uuid[])
    WITH ORDINALITY AS given (id, place)
"""
_COUNTS = "SELECT webhook_id, count(*) FROM webhook_deliveries WHERE state = 'waiting' GROUP BY webhook_id"


async def test_ten_thousand_deliveries_at_once_take_no_longer_than_one_by_one(
    tmp_path: Path, database: Database
) -> None:
    """Counting for each of them those before it would take minutes for a batch of events and a hundred web-hooks."""
    hooks = [uuid4() for _ in range(100)]
    new = [NewDelivery(uuid4(), hook, "detections.found", b"{}") for _ in range(100) for hook in hooks]
    async with running_console(tmp_path, database), database.acquire(writing=True) as connection:
        await connection.execute(_INSERT, hooks)
        async with asyncio.timeout(4):
            await add_deliveries(connection, new, 90)
        await add_deliveries(connection, new[:100], 90)
        counts: dict[UUID, int] = dict(await connection.fetch(_COUNTS))
        assert counts == dict.fromkeys(hooks, 90)
        assert await connection.fetchval("SELECT count(*) FROM webhook_deliveries") == 10_000
