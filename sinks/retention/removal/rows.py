"""Removes the rows of frames whose pictures are gone, and counts them in their flights."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from infra.database.pool import Connection
from sinks.retention.looking.needs import IS_OF_NO_JOB

# Locked in one order, as the sink does, so that the two do not wait for each other. Sessions, detections and
# annotations go with their image.
_DELETE = f"""
WITH wanted AS MATERIALIZED (
    SELECT id FROM images i
    WHERE sha256 = ANY($1) AND {IS_OF_NO_JOB.format(row="i")} ORDER BY id FOR UPDATE
), gone AS (
    DELETE FROM images WHERE id IN (SELECT id FROM wanted) RETURNING device_id, flight_id, processing_status
), counted AS (
    SELECT device_id, flight_id, count(*) AS removed,
        count(*) FILTER (WHERE processing_status = 'completed') AS detected
    FROM gone WHERE flight_id IS NOT NULL GROUP BY device_id, flight_id
), noted AS (
    UPDATE flights f SET removed = f.removed + c.removed, removed_detected = f.removed_detected + c.detected
    FROM counted c WHERE f.device_id = c.device_id AND f.flight_id = c.flight_id
)
SELECT count(*) FROM gone
"""  # noqa: S608 (constants)
_PATHS = f"""
SELECT DISTINCT lakefs_path FROM images i WHERE sha256 = ANY($1) AND lakefs_path IS NOT NULL
    AND {IS_OF_NO_JOB.format(row="i")}
"""  # noqa: S608 (constants)
_NOT_ARCHIVED = "UPDATE images SET lakefs_commit_id = NULL WHERE sha256 = ANY($1) AND lakefs_commit_id IS NOT NULL"


async def delete_rows(connection: Connection, digests: Collection[str]) -> int:
    """Delete the rows of the frames with ``digests``; return how many frames they were."""
    if not digests:
        return 0
    count: int = await connection.fetchval(_DELETE, list(digests))
    return count


async def archive_paths(connection: Connection, digests: Collection[str]) -> Sequence[str]:
    """Return where the frames with ``digests`` are in the archive."""
    return [row["lakefs_path"] for row in await connection.fetch(_PATHS, list(digests))]


async def note_not_archived(connection: Connection, digests: Collection[str]) -> None:
    """Note that the archive no longer has frames that stay after all."""
    if digests:
        await connection.execute(_NOT_ARCHIVED, list(digests))
