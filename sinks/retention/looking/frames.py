"""Reads the frames of the database by age, and says of each picture what keeps it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from infra.database.pool import Connection, Database
from sinks.retention.looking.needs import IS_FRAME_OF_MEDIUM, IS_MEDIUM, IS_OF_NO_JOB, IS_OF_UPLOAD
from sinks.retention.pins import IS_PINNED_FRAME, IS_PINNED_PICTURE
from sinks.retention.policy import Policy

_PAGE = 1_000
_FIRST = UUID(int=0)
_EVER = datetime(1, 1, 1, tzinfo=UTC)
# In the order of who needs to know: what a person wants kept is named before what keeps itself.
_KEPT = f"""
    CASE
        WHEN {IS_PINNED_PICTURE.format(row="f")} THEN 'pinned'
        WHEN bool_or({IS_PINNED_FRAME.format(row="f")}) THEN 'pinned'
        WHEN bool_or(f.is_flagged) THEN 'flagged'
        WHEN bool_or(EXISTS (SELECT FROM data_annotations a WHERE a.image_id = f.id)) THEN 'annotated'
        WHEN {IS_OF_UPLOAD.format(row="f")} THEN 'upload'
        WHEN {IS_FRAME_OF_MEDIUM.format(row="f")} OR {IS_MEDIUM.format(row="f")} THEN 'medium'
        WHEN bool_or(coalesce(f.processed_at, f.uploaded_at) >= $2
            OR EXISTS (SELECT FROM inference_sessions s WHERE s.image_id = f.id AND s.completed_at >= $2))
            THEN 'unread'
        WHEN bool_or(EXISTS (SELECT FROM inference_sessions s
            WHERE s.image_id = f.id AND s.max_confidence >= $3::real)) THEN 'confident'
    END
"""  # noqa: S608 (constants)
_PICTURES = f"""
SELECT f.sha256, min(f.image_uri) AS image_uri, max(f.size_bytes) AS size_bytes, max(f.uploaded_at) AS received_at,
    (array_agg(f.id ORDER BY f.uploaded_at DESC, f.id DESC))[1] AS last_id, count(*) AS frames,
    bool_and(f.processing_status = 'completed') AND NOT bool_or(f.has_detections) AS is_empty, {_KEPT} AS kept
FROM images f WHERE f.sha256 = ANY($1) AND {IS_OF_NO_JOB.format(row="f")} GROUP BY f.sha256
"""  # noqa: S608 (constants)
_NEXT = f"""
SELECT i.id, i.uploaded_at, i.sha256, {IS_OF_NO_JOB.format(row="i")} AS is_frame FROM images i
WHERE (i.uploaded_at, i.id) > ($1, $2) AND i.uploaded_at < $3 ORDER BY i.uploaded_at, i.id LIMIT $4
"""  # noqa: S608 (constants)


@dataclass(frozen=True, slots=True)
class Picture:
    """Is a stored picture with all frames that are it: a device may send one picture at several times."""

    sha256: str
    image_uri: str
    size_bytes: int
    received_at: datetime
    """When the last of its frames was received"""
    last_id: UUID
    frames: int
    is_empty: bool
    """Whether all its frames were processed, and none has detections"""
    kept: str | None
    """What keeps it; None: nothing does"""


async def pictures_of(connection: Connection, digests: Collection[str], policy: Policy) -> dict[str, Picture]:
    """Return the pictures with ``digests`` that have frames, by digest."""
    rows = await connection.fetch(_PICTURES, list(digests), policy.settled, policy.keep_confidence)
    return {row["sha256"]: Picture(**dict(row)) for row in rows}


async def pictures_by_age(
    database: Database, policy: Policy, since: datetime | None, before: datetime
) -> AsyncIterator[Sequence[Picture]]:
    """Yield the pictures whose last frame was received from ``since`` on and before ``before``, the oldest first.

    A page has the pictures of so many rows that reading it takes little time, however many there are.
    """
    at, last = since or _EVER, _FIRST
    while True:
        async with database.acquire() as connection:
            rows = await connection.fetch(_NEXT, at, last, before, _PAGE)
            if not rows:
                return
            own = {row["id"]: row["sha256"] for row in rows if row["is_frame"]}
            found = await pictures_of(connection, set(own.values()), policy)
        at, last = rows[-1]["uploaded_at"], rows[-1]["id"]
        # A picture counts once, where the last of its frames is.
        yield [found[digest] for id_, digest in own.items() if digest in found and found[digest].last_id == id_]
