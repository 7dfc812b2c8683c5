"""Reads and writes the web-hooks of clients, and sends their dead letters again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from console.ids import is_id, new_id
from console.webhooks.bodies import DeliveryBody, NewWebhook, Webhook
from console.webhooks.errors import TooManyWebhooksError, webhook_not_found
from infra.database.pool import Connection
from infra.database.results import rows_changed
from infra.encryption.box import SecretBox
from schemas.timestamps import utc_now
from sinks.webhooks.payloads import test_payload
from sinks.webhooks.records import NewDelivery, add_deliveries
from sinks.webhooks.sender import PURPOSE
from sinks.webhooks.signing import new_secret

MOST_WEBHOOKS = 100
_ROTATION = timedelta(hours=24)
_COLUMNS = """
id, webhook_id, url, events, conditions, description, created_at, disabled_at, disabled_reason,
(SELECT count(*) FROM webhook_deliveries d WHERE d.webhook_id = w.id AND state = 'waiting') AS waiting,
(SELECT count(*) FROM webhook_deliveries d WHERE d.webhook_id = w.id AND state = 'dead') AS dead
"""
# The lock on the client makes two requests at once count one after the other.
_LOCK = "SELECT FROM api_clients WHERE client_id = $1 FOR NO KEY UPDATE"
_COUNT = "SELECT count(*) FROM webhooks WHERE client_id = $1"
_INSERT = """
INSERT INTO webhooks (id, webhook_id, client_id, url, events, conditions, description, secret)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
_ONE = f"SELECT {_COLUMNS} FROM webhooks w WHERE client_id = $1 AND webhook_id = $2"  # noqa: S608 (constants)
_ALL = f"SELECT {_COLUMNS} FROM webhooks w WHERE client_id = $1 ORDER BY created_at, id"  # noqa: S608 (constants)
_ROTATE = """
UPDATE webhooks SET former_secret = secret, former_until = now() + $4::interval, secret = $3
WHERE client_id = $1 AND webhook_id = $2 RETURNING id
"""
_ENABLE = "UPDATE webhooks SET disabled_at = NULL, disabled_reason = NULL WHERE id = $1"
_DELETE = "DELETE FROM webhooks WHERE client_id = $1 AND webhook_id = $2 RETURNING id"
_DELIVERIES = """
SELECT id::varchar AS delivery_id, event, state, attempts, created_at,
    CASE WHEN state = 'waiting' THEN next_at END AS next_at, finished_at, last_status, last_error
FROM webhook_deliveries WHERE webhook_id = $1 ORDER BY created_at DESC, id LIMIT $2
"""
_REDRIVE = """
UPDATE webhook_deliveries SET state = 'waiting', attempts = 0, next_at = now(), finished_at = NULL
WHERE webhook_id = $1 AND state = 'dead'
"""


async def add_webhook(connection: Connection, box: SecretBox, client_id: str, asked: NewWebhook) -> tuple[Webhook, str]:
    """Keep a web-hook in a transaction of ``connection``; return it and its secret. Raises TooManyWebhooksError."""
    await connection.execute(_LOCK, client_id)
    if await connection.fetchval(_COUNT, client_id) >= MOST_WEBHOOKS:
        raise TooManyWebhooksError(
            f"this client has {MOST_WEBHOOKS} web-hooks, the most there may be",
            details="Delete those that are no longer used: DELETE /api/v1/webhooks/{webhook_id}.",
        )
    webhook_id, secret = new_id("whk"), new_secret()
    await connection.execute(
        _INSERT,
        uuid4(),
        webhook_id,
        client_id,
        asked.url,
        list(asked.events),
        asked.conditions.model_dump_json(),
        asked.description,
        box.encrypt(secret, PURPOSE),
    )
    return (await find_webhook(connection, client_id, webhook_id))[1], secret


async def find_webhook(connection: Connection, client_id: str, webhook_id: str) -> tuple[UUID, Webhook]:
    """Return a web-hook of the client with the id of its row. Raises WebhookNotFoundError."""
    row = await connection.fetchrow(_ONE, client_id, webhook_id) if is_id(webhook_id, "whk") else None
    if row is None:
        raise webhook_not_found(webhook_id)
    return row["id"], _webhook(row)


async def list_webhooks(connection: Connection, client_id: str) -> Sequence[Webhook]:
    """Return all web-hooks of the client, the oldest first."""
    return [_webhook(row) for row in await connection.fetch(_ALL, client_id)]


async def rotate_secret(connection: Connection, box: SecretBox, client_id: str, webhook_id: str) -> tuple[Webhook, str]:
    """Give a web-hook a new secret; for a day calls are signed with both. Raises WebhookNotFoundError."""
    await find_webhook(connection, client_id, webhook_id)
    secret = new_secret()
    await connection.execute(_ROTATE, client_id, webhook_id, box.encrypt(secret, PURPOSE), _ROTATION)
    return (await find_webhook(connection, client_id, webhook_id))[1], secret


async def delete_webhook(connection: Connection, client_id: str, webhook_id: str) -> None:
    """Remove a web-hook and what waits for it. Raises WebhookNotFoundError."""
    found = await connection.fetchval(_DELETE, client_id, webhook_id) if is_id(webhook_id, "whk") else None
    if found is None:
        raise webhook_not_found(webhook_id)


async def list_deliveries(connection: Connection, client_id: str, webhook_id: str, most: int) -> Sequence[DeliveryBody]:
    """Return the newest deliveries of a web-hook. Raises WebhookNotFoundError."""
    row, _ = await find_webhook(connection, client_id, webhook_id)
    return [DeliveryBody(**dict(each)) for each in await connection.fetch(_DELIVERIES, row, most)]


async def redrive(connection: Connection, client_id: str, webhook_id: str) -> int:
    """Send the dead letters of a web-hook again, and call it again if it was disabled; return how many.

    Raises WebhookNotFoundError.
    """
    row, _ = await find_webhook(connection, client_id, webhook_id)
    await connection.execute(_ENABLE, row)
    return rows_changed(await connection.execute(_REDRIVE, row))


async def add_test(connection: Connection, client_id: str, webhook_id: str, max_waiting: int) -> UUID:
    """Let a web-hook be called once as a test; return the id of the delivery. Raises WebhookNotFoundError."""
    row, _ = await find_webhook(connection, client_id, webhook_id)
    delivery = uuid4()
    new = NewDelivery(delivery, row, "test", test_payload(webhook_id, utc_now()))
    await add_deliveries(connection, [new], max_waiting)
    return delivery


def _webhook(row: Any) -> Webhook:
    fields = {name: row[name] for name in Webhook.model_fields if name != "conditions"}
    return Webhook(**fields, conditions=json.loads(row["conditions"]))
