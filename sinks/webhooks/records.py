"""Reads and writes what is to be delivered to web-hooks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from infra.database.clock_tests import is_over
from infra.database.pool import Connection
from infra.database.results import rows_changed
from sinks.webhooks.payloads import EventName

CHECK = "SELECT id FROM webhooks LIMIT 0; SELECT id FROM webhook_deliveries LIMIT 0"
# Beyond the limit of a web-hook a delivery is dead at once: its receiver has been away for long, and others go on.
_ADD = """
WITH new AS (
    SELECT id, webhook, event, payload, row_number() OVER (PARTITION BY webhook ORDER BY place) - 1 AS before
    FROM unnest($1::uuid[], $2::uuid[], $3::varchar[], $4::bytea[]) WITH ORDINALITY
        AS given (id, webhook, event, payload, place)
),
waiting AS (
    SELECT webhook_id, count(*) AS deliveries FROM webhook_deliveries
    WHERE state = 'waiting' AND webhook_id IN (SELECT webhook FROM new) GROUP BY webhook_id
)
INSERT INTO webhook_deliveries (id, webhook_id, event, payload, state, finished_at, last_error)
SELECT new.id, new.webhook, new.event, new.payload,
    CASE WHEN full_up THEN 'dead' ELSE 'waiting' END, CASE WHEN full_up THEN now() END,
    CASE WHEN full_up THEN 'too many deliveries to this web-hook wait (webhooks.max_waiting)' END
FROM new JOIN webhooks ON webhooks.id = new.webhook LEFT JOIN waiting ON waiting.webhook_id = new.webhook
CROSS JOIN LATERAL (SELECT coalesce(waiting.deliveries, 0) + new.before >= $5 AS full_up) AS room
ON CONFLICT (id) DO NOTHING
"""
# No wait is longer than half a day.
_IS_DUE = is_over("d.next_at", "interval '13 hours'")
# The time until which a call must have ended is the next attempt: a process that is killed gives its calls back.
# Clients take turns, each with its web-hooks in turn: what many receivers of one client do delays no other client.
_CLAIM = f"""
WITH running AS (
    SELECT w.client_id, count(*) AS calls FROM unnest($5::uuid[]) AS called (id) JOIN webhooks w ON w.id = called.id
    GROUP BY w.client_id
),
due AS (
    SELECT d.id, d.next_at, w.client_id, row_number() OVER (PARTITION BY d.webhook_id ORDER BY d.next_at) AS place
    FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id
    WHERE d.state = 'waiting' AND {_IS_DUE} AND w.disabled_at IS NULL AND NOT d.webhook_id = ANY($4)
),
turns AS (
    SELECT due.id, due.next_at, coalesce(running.calls, 0)
        + row_number() OVER (PARTITION BY due.client_id ORDER BY due.place, due.next_at) AS turn
    FROM due LEFT JOIN running ON running.client_id = due.client_id WHERE due.place <= $3
)
UPDATE webhook_deliveries d SET attempts = attempts + 1, next_at = now() + $1::interval
FROM (SELECT id FROM turns ORDER BY turn, next_at LIMIT $2) AS chosen
WHERE d.id = chosen.id AND d.state = 'waiting' AND {_IS_DUE}
RETURNING d.id, d.webhook_id, d.payload, d.attempts
"""  # noqa: S608 (constants)
_HOOKS = """
SELECT id, webhook_id, url, secret, CASE WHEN former_until > now() THEN former_secret END AS former_secret
FROM webhooks WHERE id = ANY($1)
"""
_DELIVERED = """
UPDATE webhook_deliveries SET state = 'delivered', finished_at = now(), last_status = $2, last_error = NULL
WHERE id = $1 AND attempts = $3
"""
_LATER = """
UPDATE webhook_deliveries SET next_at = now() + $2::interval, last_status = $3, last_error = $4
WHERE id = $1 AND attempts = $5 AND state = 'waiting'
"""
_DEAD = """
UPDATE webhook_deliveries SET state = 'dead', finished_at = now(), last_status = $2, last_error = $3
WHERE id = $1 AND attempts = $4 AND state = 'waiting'
"""
_DISABLE = "UPDATE webhooks SET disabled_at = now(), disabled_reason = $2 WHERE id = $1 AND disabled_at IS NULL"
_BURY = """
UPDATE webhook_deliveries SET state = 'dead', finished_at = now(), last_error = 'the web-hook was disabled'
WHERE webhook_id = $1 AND state = 'waiting'
"""
_FORGET = """
DELETE FROM webhook_deliveries WHERE id IN (
    SELECT id FROM webhook_deliveries WHERE finished_at < now() - $1::interval LIMIT 1000
)
"""


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """Is something to deliver; a delivery with a known id is not added again."""

    id: UUID
    webhook: UUID
    event: EventName
    payload: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """Is a delivery that this process attempts now, for the ``attempts``-th time."""

    id: UUID
    webhook: UUID
    payload: bytes
    attempts: int


@dataclass(frozen=True, slots=True)
class Hook:
    """Is the web-hook of a delivery; its secrets are encrypted."""

    id: UUID
    webhook_id: str
    url: str
    secret: bytes
    former_secret: bytes | None


async def add_deliveries(connection: Connection, new: Sequence[NewDelivery], max_waiting: int) -> None:
    """Add what is to be delivered, in a transaction of ``connection`` or by itself."""
    ids, hooks = [each.id for each in new], [each.webhook for each in new]
    events, payloads = [each.event for each in new], [each.payload for each in new]
    await connection.execute(_ADD, ids, hooks, events, payloads, max_waiting)


async def claim(
    connection: Connection, lease: timedelta, most: int, per_webhook: int, running: Sequence[UUID]
) -> list[Delivery]:
    """Return deliveries that are due, which nobody else attempts for the time of ``lease``.

    ``running`` has the web-hook of each call in progress: those with ``per_webhook`` calls get no more, and clients
    with fewer calls come first.
    """
    busy = [hook for hook, count in Counter(running).items() if count >= per_webhook]
    rows = await connection.fetch(_CLAIM, lease, most, per_webhook, busy, running)
    return [Delivery(row["id"], row["webhook_id"], row["payload"], row["attempts"]) for row in rows]


async def hooks_of(connection: Connection, deliveries: Sequence[Delivery]) -> dict[UUID, Hook]:
    """Return the web-hooks of deliveries by id."""
    rows = await connection.fetch(_HOOKS, list({each.webhook for each in deliveries}))
    return {row["id"]: Hook(**dict(row)) for row in rows}


async def note_delivered(connection: Connection, delivery: Delivery, status: int) -> None:
    """Keep that a receiver took a delivery."""
    await connection.execute(_DELIVERED, delivery.id, status, delivery.attempts)


async def note_failed(
    connection: Connection, delivery: Delivery, status: int | None, error: str, delay: timedelta | None
) -> None:
    """Keep that an attempt failed; it is tried again after ``delay``, or is a dead letter (None)."""
    if delay is None:
        await connection.execute(_DEAD, delivery.id, status, error, delivery.attempts)
    else:
        await connection.execute(_LATER, delivery.id, delay, status, error, delivery.attempts)


async def disable(connection: Connection, webhook: UUID, reason: str) -> None:
    """Call a web-hook no more; what waits for it becomes dead letters."""
    await connection.execute(_DISABLE, webhook, reason)
    await connection.execute(_BURY, webhook)


async def forget_finished(connection: Connection, keep: timedelta) -> int:
    """Remove deliveries that ended longer than ``keep`` ago; return how many, a thousand at most."""
    return rows_changed(await connection.execute(_FORGET, keep))
