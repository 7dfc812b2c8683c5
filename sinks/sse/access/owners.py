"""Looks up in the database which jobs and media belong to a client."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from infra.database.pool import Database

# A medium that is detected again and again has a run each time; its newest ones can still have events to come.
_MOST = 1_000
_SELECT = """
SELECT id, job_id AS name FROM jobs WHERE client_id = $1 AND (job_id = ANY($2) OR id = ANY($3))
UNION ALL (
    SELECT id, coalesce(media_id, '') AS name FROM media_runs
    WHERE client_id = $1 AND (media_id = ANY($4) OR id = ANY($3)) ORDER BY created_at DESC LIMIT $5
)
"""
_MEDIA = "SELECT id, client_id, media_id FROM media_runs WHERE id = ANY($1) AND media_id IS NOT NULL"


class DatabaseOwners:
    """Implements :class:`sinks.sse.access.ports.Owners`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(
        self, client_id: str, job_names: Collection[str], ids: Collection[UUID], media: Collection[str]
    ) -> Collection[tuple[UUID, str]]:
        """Return what is found; see the port."""
        async with self._database.acquire() as connection:
            rows = await connection.fetch(_SELECT, client_id, list(job_names), list(ids), list(media), _MOST)
        return [(row["id"], row["name"]) for row in rows]

    async def media_of(self, ids: Collection[UUID]) -> Mapping[UUID, tuple[str, str]]:
        """Return what is found; see the port."""
        async with self._database.acquire() as connection:
            rows = await connection.fetch(_MEDIA, list(ids))
        return {row["id"]: (row["client_id"], row["media_id"]) for row in rows}
