"""Writes events into the outbox within the transaction of the change that they report."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from datetime import datetime
from typing import Any
from uuid import UUID

from infra.broker.event_records import event_record
from infra.broker.port import OutRecord
from infra.database.pool import Connection
from schemas.event_base import Event

_INSERT = """
INSERT INTO outbox (id, topic, key, headers, value) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING
"""
# Rows that another process publishes at this moment are skipped.
_TAKE = "SELECT position, topic, key, headers, value FROM outbox ORDER BY position LIMIT $1 FOR UPDATE SKIP LOCKED"
_DELETE = "DELETE FROM outbox WHERE position = ANY($1)"


async def add_event(
    connection: Connection,
    topic: str,
    event: Event,
    *,
    id: UUID,  # noqa: A002 (the attribute's name in CloudEvents)
    source: str,
    time: datetime,
    key: str,
) -> None:
    """Add ``event`` in the transaction of ``connection``; one with the same ``id`` is not added a second time."""
    record = event_record(topic, event, id=id, source=source, subject=key, time=time, key=key)
    headers = json.dumps([[name, b64encode(value).decode()] for name, value in record.headers])
    await connection.execute(_INSERT, id, topic, key, headers, record.value)


async def take_records(connection: Connection, most: int) -> tuple[list[int], list[OutRecord]]:
    """Return the oldest events, with their places, locked until the transaction of ``connection`` ends."""
    rows: list[Any] = await connection.fetch(_TAKE, most)
    records = [
        OutRecord(
            topic=row["topic"],
            key=row["key"],
            value=row["value"],
            headers=tuple((name, b64decode(value)) for name, value in json.loads(row["headers"])),
        )
        for row in rows
    ]
    return [row["position"] for row in rows], records


async def remove_records(connection: Connection, places: list[int]) -> None:
    """Remove events that are published, in the transaction in which they were taken."""
    await connection.execute(_DELETE, places)
