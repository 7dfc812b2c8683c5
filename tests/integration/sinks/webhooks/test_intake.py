"""Events become deliveries to thousands of web-hooks, and the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from uuid import uuid4

import pytest

from infra.database.pool import Database
from sinks.webhooks.intake import DetectionWebhooks
from sinks.webhooks.settings import WebhookSettings
from standgale.testing.factories import detections_made
from tests.servers.console import running_console

pytestmark = pytest.mark.integration

_INSERT = """
INSERT INTO webhooks (id, webhook_id, client_id, url, events, conditions, secret)
SELECT id, 'whk_' || place, 'desktop', 'https://example.org/', '{detections.found}',
    jsonb_build_object('min_confidence', 0.00001 * (place % 50), 'min_count', 1 + place % 2), ''
FROM unnest($1::uuid[]) WITH ORDINALITY AS given (id, place)
"""
_FOUND = "SELECT convert_from(payload, 'UTF8') AS payload, count(*) FROM webhook_deliveries GROUP BY payload"


async def test_thousands_of_web_hooks_for_one_event_hold_no_event_loop(tmp_path: Path, database: Database) -> None:
    event = detections_made(labels=["bird"] * 200)
    async with running_console(tmp_path, database):
        async with database.acquire(writing=True) as connection:
            await connection.execute(_INSERT, [uuid4() for _ in range(3_000)])
        sink = DetectionWebhooks(database, WebhookSettings())
        longest_s, ended = 0.0, asyncio.Event()

        async def watch() -> None:
            nonlocal longest_s
            while not ended.is_set():
                start = time.monotonic()
                await asyncio.sleep(0.001)
                longest_s = max(longest_s, time.monotonic() - start)

        watching = asyncio.create_task(watch())
        await sink.write([event])
        ended.set()
        await watching
        assert longest_s < 0.5
        async with database.acquire() as connection:
            [row] = await connection.fetch(_FOUND)
        assert row["count"] == 3_000
        assert json.loads(row["payload"])["data"]["detection_count"] == 200
