"""Keeps what is to be removed in a table, from before the removal until its last step: the intent log."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from infra.database.pool import Connection
from sinks.retention.looking.plan import Planned

_WRITE = """
INSERT INTO retention_intents (sha256, image_uri, size_bytes, reason, planned_at)
SELECT *, $5::timestamptz FROM unnest($1::varchar[], $2::varchar[], $3::bigint[], $4::varchar[])
ON CONFLICT (sha256) DO NOTHING
"""
_TAKE = "SELECT sha256, image_uri, size_bytes, reason FROM retention_intents ORDER BY sha256 LIMIT $1"
_STRIKE_OUT = "DELETE FROM retention_intents WHERE sha256 = ANY($1)"
_COUNT = "SELECT count(*) FROM retention_intents"


async def write_intents(connection: Connection, planned: Sequence[Planned], planned_at: datetime) -> None:
    """Write down what is to be removed."""
    if planned:
        await connection.execute(
            _WRITE,
            [each.sha256 for each in planned],
            [each.image_uri for each in planned],
            [each.size_bytes for each in planned],
            [each.reason for each in planned],
            planned_at,
        )


async def next_intents(connection: Connection, most: int) -> Sequence[Planned]:
    """Return some of what is written down."""
    return [Planned(**dict(row)) for row in await connection.fetch(_TAKE, most)]


async def strike_out(connection: Connection, digests: Collection[str]) -> None:
    """Forget intents: they were carried out, or are no longer wanted."""
    if digests:
        await connection.execute(_STRIKE_OUT, list(digests))


async def count_intents(connection: Connection) -> int:
    """Return how many are written down."""
    count: int = await connection.fetchval(_COUNT)
    return count
