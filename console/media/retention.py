"""Removes the bytes of videos that have ended, and forgets media after some days."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from infra.database.pool import Database
from infra.database.results import rows_changed
from infra.database.transaction import transaction
from infra.failure.rounds import Rounds, run_rounds
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from infra.storage.frames.addressing import OTHER
from infra.storage.frames.port import REFRESH_AFTER_S, FrameStore
from schemas.timestamps import utc_now

_EVERY_S = 30.0
_AT_ONCE = 5
_LOCK = 0x5374674D52657465
# The store removes nothing that is younger.
_UNTOUCHED_FOR = timedelta(seconds=REFRESH_AFTER_S + 600.0)
# Its bytes may have been stored long before it ended; a newer medium with the same ones has put them again.
_VIDEOS = """
SELECT id, medium_uri, EXISTS (
    SELECT FROM media_runs o WHERE o.medium_sha256 = r.medium_sha256 AND o.id <> r.id AND o.medium_removed_at IS NULL
        AND (o.finished_at IS NULL OR o.finished_at > clock_timestamp() - $1::interval)
) AS is_used
FROM media_runs r
WHERE finished_at < clock_timestamp() - $1::interval AND medium_type = $2 AND medium_removed_at IS NULL
ORDER BY finished_at LIMIT $3 FOR UPDATE SKIP LOCKED
"""
_REMOVED = "UPDATE media_runs SET medium_removed_at = clock_timestamp() WHERE id = $1"
# Requests that waited for a picture remove its row themselves, unless their process was killed.
_FORGET = """
DELETE FROM media_runs WHERE id IN (
    SELECT id FROM media_runs
    WHERE (finished_at < clock_timestamp() - $1::interval
            AND (medium_type IS DISTINCT FROM $2 OR medium_removed_at IS NOT NULL))
        OR (media_id IS NULL AND created_at < clock_timestamp() - interval '1 hour')
    LIMIT 20
)
"""


class MediaRetention:
    """Is the component that removes; one of several processes at a time does it."""

    name = "media-retention"

    def __init__(self, database: Database, store: FrameStore, keep_days: float, retry: RetrySettings) -> None:
        self._rounds = Rounds("removing media", "media that have ended are still there", _EVERY_S, ready_in_spite=True)
        self._retry = retry
        self._database = database
        self._store = store
        self._keep = timedelta(days=keep_days)

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Remove until ``stop`` is set; an error is shown and tried again."""
        await run_rounds(self._rounds, self.work, stop, health, self._retry)

    async def work(self) -> int:
        """Remove what is due; return how much. Raises the errors of database and store."""
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
                return 0
            rows: list[Any] = await connection.fetch(_VIDEOS, 2 * _UNTOUCHED_FOR, OTHER, _AT_ONCE)
            for row in rows:
                if not row["is_used"]:
                    await self._store.delete_older(row["medium_uri"], utc_now() - _UNTOUCHED_FOR)
                await connection.execute(_REMOVED, row["id"])
            forgotten = await connection.execute(_FORGET, self._keep, OTHER)
        return len(rows) + rows_changed(forgotten)
