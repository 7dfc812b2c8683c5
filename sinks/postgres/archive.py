"""Notes where the archive keeps the frames: path and commit of each image.

A commit may be read before the row of an image is written, because each sink goes its own way. Such frames wait in the
table ``archive_pending``; :class:`PendingCommits` notes them when their rows are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from infra.database.pool import Connection, Database
from infra.database.results import rows_changed
from infra.database.transaction import transaction
from infra.failure.rounds import Rounds, run_rounds
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from schemas.archive_events import ArchiveCommitted
from schemas.topics import ARCHIVE_COMMITS

CHECK = "SELECT frame_id, lakefs_path, lakefs_commit_id, noted_at FROM archive_pending LIMIT 0"
_ADD = """
INSERT INTO archive_pending (frame_id, lakefs_path, lakefs_commit_id)
SELECT * FROM unnest($1::uuid[], $2::varchar[], $3::varchar[])
ON CONFLICT (frame_id) DO NOTHING
"""
# The first commit that has a frame stays: later ones have it too.
_NOTE = """
WITH found AS (
    SELECT p.frame_id, p.lakefs_path, p.lakefs_commit_id FROM archive_pending p
    WHERE EXISTS (SELECT FROM images i WHERE i.id = p.frame_id)
    ORDER BY p.frame_id LIMIT $1 FOR UPDATE OF p SKIP LOCKED
), noted AS (
    UPDATE images i SET lakefs_path = f.lakefs_path, lakefs_commit_id = f.lakefs_commit_id
    FROM found f WHERE i.id = f.frame_id AND i.lakefs_commit_id IS NULL
)
DELETE FROM archive_pending p USING found f WHERE p.frame_id = f.frame_id
"""
_FORGET = "DELETE FROM archive_pending WHERE noted_at < now() - $1::interval"
_AT_ONCE = 5_000
_EVERY_S = 5.0


class ArchiveCommits:
    """Is the sink of the archive's commits."""

    name: str = "archive-commits"
    event: type[ArchiveCommitted] = ArchiveCommitted
    topics: tuple[str, ...] = (ARCHIVE_COMMITS,)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self) -> None:
        """Check that the tables exist. Raises DatabaseUnavailableError, and RefusedError (also before a migration)."""
        async with self._database.acquire() as connection:
            await connection.execute(CHECK)

    async def write(self, events: Sequence[ArchiveCommitted]) -> None:
        """Note path and commit of the frames in ``events``, or keep them until their rows are there."""
        first: dict[object, tuple[str, str]] = {}
        for event in events:
            for image in event.images:
                first.setdefault(image.frame_id, (image.path, event.commit_id))
        rows = sorted((frame, path, commit) for frame, (path, commit) in first.items())
        frames, paths, commits = zip(*rows, strict=True)
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            await connection.execute(_ADD, frames, paths, commits)
            await note_pending(connection)

    async def close(self) -> None:
        """Do nothing: the connections belong to the database, and the process that opened it closes it."""


class PendingCommits:
    """Notes the frames whose rows were written after their commit was read; a component of the process."""

    name = "archive-pending"

    def __init__(
        self, database: Database, detections_kept_s: float, retry: RetrySettings, *, every_s: float = _EVERY_S
    ) -> None:
        """``detections_kept_s``: the retention of the topic ``detections``.

        A frame whose row is not there by then is forgotten, because nothing is left from which it could be written.
        """
        self._kept = timedelta(seconds=detections_kept_s)
        self._database = database
        self._retry = retry
        self._rounds = Rounds("noting commits of the archive", "frames wait for their commit", every_s)

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Look every few seconds until ``stop`` is set."""
        await run_rounds(self._rounds, self._note, stop, health, self._retry)

    async def _note(self) -> int:
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            await connection.execute(_FORGET, self._kept)
            noted = await note_pending(connection)
        # Where there are more, the next round is at once.
        return noted if noted == _AT_ONCE else 0


async def note_pending(connection: Connection) -> int:
    """Note frames that wait and have a row now, and return how many; at most so many at once that it stays quick."""
    return rows_changed(await connection.execute(_NOTE, _AT_ONCE))
