"""Takes files that wait from the database in a fair order, and notes those that were published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from infra.database.clock_tests import is_older
from infra.database.pool import Connection
from sinks.postgres.job_counts import LOCK_JOBS

_LOCK = 0x5374676A6F6273
"""One process publishes at a time; the others wait for their turn to find the lock free."""
_JOBS_OF_A_CLIENT = 64
"""So many jobs of a client, the oldest, are done at the same time."""

_TRY_LOCK = "SELECT pg_try_advisory_xact_lock($1)"
_FREE = "SELECT $1 - count(*) FROM job_files WHERE status = 'published'"
_TAKE = """
WITH busy AS (SELECT job_id, count(*) AS files FROM job_files WHERE status = 'published' GROUP BY job_id),
open AS (
    SELECT j.id, j.client_id, j.created_at, coalesce(b.files, 0) AS busy,
        sum(coalesce(b.files, 0)) OVER (PARTITION BY j.client_id) AS client_busy,
        EXISTS (SELECT FROM job_files AS q WHERE q.job_id = j.id AND q.status = 'queued') AS waits
    FROM jobs AS j LEFT JOIN busy AS b ON b.job_id = j.id
    WHERE j.finished_at IS NULL
),
early AS (
    SELECT *, row_number() OVER (PARTITION BY client_id ORDER BY created_at, id) AS place
    FROM open WHERE waits AND busy < $1
),
files AS (
    SELECT e.id AS job_id, e.client_id, e.created_at, e.client_busy, q.position,
        e.busy + row_number() OVER (PARTITION BY e.id ORDER BY q.position) AS turn
    FROM early AS e CROSS JOIN LATERAL (
        SELECT position FROM job_files AS q WHERE q.job_id = e.id AND q.status = 'queued'
        ORDER BY position LIMIT LEAST($1 - e.busy, $3)
    ) AS q
    WHERE e.place <= LEAST($2, $3)
),
-- Each client gets as many at a time as any other, and each of its jobs as many as any other of its jobs.
turns AS (
    SELECT *, client_busy + row_number() OVER (PARTITION BY client_id ORDER BY turn, created_at, job_id) AS client_turn
    FROM files
)
SELECT job_id, position FROM turns ORDER BY client_turn, created_at, job_id LIMIT $3
"""
_IS_LATE = is_older("f.published_at", "$1::interval")
_LATE = f"""
SELECT f.job_id, f.position FROM job_files AS f JOIN jobs AS j ON j.id = f.job_id
WHERE f.status = 'published' AND j.finished_at IS NULL AND {_IS_LATE}
ORDER BY f.published_at LIMIT $2
"""  # noqa: S608 (constants)
# Their results are lost, and nobody waits for them; they would keep others from the detectors for ever.
_RELEASE = f"""
UPDATE job_files AS f SET status = 'cancelled', finished_at = clock_timestamp() FROM jobs AS j
WHERE j.id = f.job_id AND f.status = 'published' AND j.finished_at IS NOT NULL
    AND {_IS_LATE}
"""  # noqa: S608 (constants)
_FRAMES = """
SELECT f.job_id, f.position, f.frame_id, f.device_id, j.created_at, u.filename, u.size_bytes, u.media_type, u.width,
    u.height, u.sha256, u.image_uri, u.captured_at, u.camera
FROM unnest($1::uuid[], $2::int[]) WITH ORDINALITY AS t (job_id, position, turn)
JOIN job_files AS f ON f.job_id = t.job_id AND f.position = t.position
JOIN jobs AS j ON j.id = f.job_id JOIN uploaded_files AS u ON u.id = f.file_id
ORDER BY t.turn
"""
_CONFIGS = "SELECT id, config FROM jobs WHERE id = ANY($1::uuid[])"
_MARK = """
UPDATE job_files AS f SET status = 'published', published_at = clock_timestamp()
FROM unnest($1::uuid[], $2::int[]) AS t (job_id, position)
WHERE f.job_id = t.job_id AND f.position = t.position AND f.status IN ('queued', 'published')
"""
_START = """
UPDATE jobs SET status = 'processing', started_at = clock_timestamp(),
    updated_at = greatest(updated_at, clock_timestamp())
WHERE id = ANY($1::uuid[]) AND status = 'queued' RETURNING id
"""


@dataclass(frozen=True, slots=True)
class WaitingFile:
    """Holds what the frame of a file says."""

    job_id: UUID
    position: int
    frame_id: UUID
    device_id: str
    created_at: datetime
    """When the job was made"""
    filename: str
    size_bytes: int
    media_type: str
    width: int
    height: int
    sha256: str
    image_uri: str
    captured_at: datetime
    camera: str | None
    """JSON"""


async def try_lock(connection: Connection) -> bool:
    """Return whether this transaction is the one that publishes."""
    return bool(await connection.fetchval(_TRY_LOCK, _LOCK))


async def take_files(connection: Connection, *, window: int, most_published: int, most: int) -> list[WaitingFile]:
    """Return at most ``most`` files that wait, those whose turn it is first.

    With them at most ``window`` of a job and ``most_published`` of all jobs are with the detectors.
    """
    free = await connection.fetchval(_FREE, most_published)
    if free <= 0:
        return []
    rows: list[Any] = await connection.fetch(_TAKE, window, _JOBS_OF_A_CLIENT, min(free, most))
    return await _files(connection, rows)


async def late_files(connection: Connection, *, after_s: float, most: int) -> list[WaitingFile]:
    """Return files of open jobs that were published more than ``after_s`` ago and have no end.

    Those of jobs that were cancelled meanwhile end with this.
    """
    await connection.execute(_RELEASE, timedelta(seconds=after_s))
    return await _files(connection, await connection.fetch(_LATE, timedelta(seconds=after_s), most))


async def _files(connection: Connection, rows: Sequence[Any]) -> list[WaitingFile]:
    if not rows:
        return []
    found = await connection.fetch(_FRAMES, [row["job_id"] for row in rows], [row["position"] for row in rows])
    return [WaitingFile(**dict(row.items())) for row in found]


async def configs_of(connection: Connection, files: Sequence[WaitingFile]) -> dict[UUID, str]:
    """Return the options of the jobs of ``files``, as JSON."""
    jobs = sorted({file.job_id for file in files})
    return {row["id"]: row["config"] for row in await connection.fetch(_CONFIGS, jobs)}


async def mark_published(connection: Connection, files: Sequence[WaitingFile]) -> int:
    """Note that ``files`` are with the detectors; return how many jobs have begun with that."""
    jobs = sorted({file.job_id for file in files})
    await connection.execute(LOCK_JOBS, jobs)
    await connection.execute(_MARK, [file.job_id for file in files], [file.position for file in files])
    return len(await connection.fetch(_START, jobs))
