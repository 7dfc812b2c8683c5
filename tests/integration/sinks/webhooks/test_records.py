"""Deliveries are added in a time that grows with their number, and clients and web-hooks take turns."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from infra.database.pool import Database
from sinks.webhooks.records import NewDelivery, add_deliveries, claim
from tests.servers.console import running_console

pytestmark = pytest.mark.integration

_INSERT = """
INSERT INTO webhooks (id, webhook_id, client_id, url, events, conditions, secret)
SELECT id, 'whk_' || $2 || place, $2, 'https://example.org/', '{}', '{}', '' FROM unnest($1::uuid[])
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
        await connection.execute(_INSERT, hooks, "desktop")
        async with asyncio.timeout(4):
            await add_deliveries(connection, new, 90)
        await add_deliveries(connection, new[:100], 90)
        counts: dict[UUID, int] = dict(await connection.fetch(_COUNTS))
        assert counts == dict.fromkeys(hooks, 90)
        assert await connection.fetchval("SELECT count(*) FROM webhook_deliveries") == 10_000


async def test_deliveries_of_a_clock_that_was_set_back_wait_no_day(tmp_path: Path, database: Database) -> None:
    """The clock of the database was a day ahead when attempts failed."""
    hook, waits = uuid4(), ("5 s", "11 hours", "1 day 5 s", "1 day 11 hours", "9 days")
    new = [NewDelivery(uuid4(), hook, "job.finished", b"{}") for _ in waits]
    async with running_console(tmp_path, database), database.acquire(writing=True) as connection:
        await connection.execute(_INSERT, [hook], "desktop")
        await add_deliveries(connection, new, 90)
        for each, wait in zip(new, waits, strict=True):
            await connection.execute(
                "UPDATE webhook_deliveries SET next_at = now() + $2::text::interval WHERE id = $1", each.id, wait
            )
        claimed = await claim(connection, timedelta(seconds=60), 16, 16, [])
        assert {each.id for each in claimed} == {each.id for each in new[2:]}
        assert await claim(connection, timedelta(seconds=60), 16, 16, []) == []


async def test_many_web_hooks_of_a_client_keep_another_client_no_time_waiting(
    tmp_path: Path, database: Database
) -> None:
    """Receivers of one client that answer nothing would else hold all calls for hours."""
    hooks, other = [uuid4() for _ in range(100)], uuid4()
    async with running_console(tmp_path, database), database.acquire(writing=True) as connection:
        await connection.execute("INSERT INTO api_clients (client_id) VALUES ('laptop') ON CONFLICT DO NOTHING")
        await connection.execute(_INSERT, hooks, "desktop")
        await connection.execute(_INSERT, [other], "laptop")
        for hook in (*hooks, other):
            new = [NewDelivery(uuid4(), hook, "job.finished", b"{}") for _ in range(20)]
            await add_deliveries(connection, new, 1_000)
        await connection.execute("UPDATE webhook_deliveries SET next_at = now() - interval '1 s' * random()")
        claimed = await claim(connection, timedelta(seconds=60), 16, 4, [])
        assert Counter(each.webhook == other for each in claimed) == {True: 4, False: 12}
        assert len({each.webhook for each in claimed}) == 13
        # All calls are the first client's, and one of them ends.
        freed = await claim(connection, timedelta(seconds=60), 1, 4, hooks[:15])
        assert [each.webhook for each in freed] == [other]
        assert {each.webhook for each in await claim(connection, timedelta(seconds=60), 8, 4, [other] * 4)} <= {*hooks}
