"""Reads which media are posted and with which tokens, and keeps what was posted."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from infra.database.pool import Connection

PURPOSE = "media"
"""What tokens of media are encrypted for; see :mod:`console.media`."""
Key = tuple[UUID, UUID]
"""Names what is posted once: a run of a medium, and a frame of it"""

CHECK = (
    "SELECT annotate, token, refresh_token, refresh_at FROM media_runs LIMIT 0; "
    "SELECT run_id, frame_id, posted, annotation_id, returned FROM annotation_posts LIMIT 0; "
    "SELECT id, image_id, detection_id FROM data_annotations LIMIT 0"
)
_MEDIA = "SELECT id, media_id FROM media_runs WHERE id = ANY($1::uuid[]) AND annotate AND media_id IS NOT NULL"
_NOTED = """
SELECT p.run_id, p.frame_id FROM annotation_posts p
JOIN unnest($1::uuid[], $2::uuid[]) AS w (run_id, frame_id) ON w.run_id = p.run_id AND w.frame_id = p.frame_id
"""
_KEPT = "SELECT token, refresh_token IS NOT NULL AS is_refreshable FROM media_runs WHERE id = $1"
# Not where another attempt has been given a new token meanwhile. A token that does not say when it expires has no time.
_REFRESH_NOW = """
UPDATE media_runs SET refresh_at = clock_timestamp() WHERE id = $1 AND token = $2 AND refresh_token IS NOT NULL
    AND (refresh_at IS NULL OR refresh_at > clock_timestamp())
"""
# Nothing of a medium that was forgotten meanwhile.
_NOTE = """
INSERT INTO annotation_posts (run_id, frame_id, posted, annotation_id, returned)
SELECT n.run_id, n.frame_id, n.posted, n.annotation_id, n.returned::jsonb
FROM unnest($1::uuid[], $2::uuid[], $3::boolean[], $4::varchar[], $5::text[])
    AS n (run_id, frame_id, posted, annotation_id, returned)
JOIN media_runs r ON r.id = n.run_id
ON CONFLICT (run_id, frame_id) DO NOTHING
"""
# The rows of images are written by another sink, sooner or later.
_WAITING = """
SELECT p.run_id, p.frame_id FROM annotation_posts p
WHERE p.returned IS NOT NULL AND EXISTS (SELECT FROM images i WHERE i.id = p.frame_id)
ORDER BY p.noted_at LIMIT $1 FOR UPDATE SKIP LOCKED
"""
_STORE = """
INSERT INTO data_annotations (id, image_id, detection_id, annotation_type, corrected_bbox, corrected_label, annotator,
    annotated_at, notes)
SELECT a.id, p.frame_id, d.id, a.annotation_type, a.corrected_bbox, a.corrected_label, a.annotator,
    coalesce(a.annotated_at, p.noted_at), a.notes
FROM annotation_posts p
JOIN unnest($1::uuid[], $2::uuid[]) AS w (run_id, frame_id) ON w.run_id = p.run_id AND w.frame_id = p.frame_id
CROSS JOIN LATERAL jsonb_to_recordset(p.returned) AS a (id uuid, detection_id uuid, annotation_type text,
    corrected_bbox jsonb, corrected_label text, annotator text, annotated_at timestamptz, notes text)
LEFT JOIN detections d ON d.id = a.detection_id
ON CONFLICT (id) DO NOTHING
"""
_STORED = """
UPDATE annotation_posts p SET returned = NULL
FROM unnest($1::uuid[], $2::uuid[]) AS w (run_id, frame_id) WHERE w.run_id = p.run_id AND w.frame_id = p.frame_id
"""


@dataclass(frozen=True, slots=True)
class CallersToken:
    """Is the token of a run as it is now, encrypted."""

    encrypted: bytes | None
    """None: it was forgotten"""
    is_refreshable: bool
    """Whether the caller has given a token that refreshes it"""


@dataclass(frozen=True, slots=True)
class Note:
    """Says that a frame needs no more posts."""

    key: Key
    posted: bool
    annotation_id: str | None = None
    returned: Sequence[Mapping[str, Any]] = ()


async def media_of(connection: Connection, runs: Collection[UUID]) -> dict[UUID, str]:
    """Return the ids of the media, by run, whose detections are posted; other jobs are left out."""
    return {row["id"]: row["media_id"] for row in await connection.fetch(_MEDIA, list(runs))}


async def noted_among(connection: Connection, keys: Collection[Key]) -> set[Key]:
    """Return those of ``keys`` that need no more posts."""
    rows = await connection.fetch(_NOTED, *_columns(keys))
    return {(row["run_id"], row["frame_id"]) for row in rows}


async def token_of(connection: Connection, run: UUID) -> CallersToken:
    """Return the token of ``run``."""
    row = await connection.fetchrow(_KEPT, run)
    return CallersToken(None, False) if row is None else CallersToken(row["token"], row["is_refreshable"])


async def ask_for_refresh(connection: Connection, run: UUID, token: bytes) -> None:
    """Let the console refresh ``token`` at once, unless it has a new one already."""
    await connection.execute(_REFRESH_NOW, run, token)


async def write_notes(connection: Connection, notes: Sequence[Note]) -> None:
    """Keep ``notes``; what was noted before stays."""
    runs, frames = _columns([note.key for note in notes])
    await connection.execute(
        _NOTE,
        *(runs, frames, [note.posted for note in notes], [note.annotation_id for note in notes]),
        [json.dumps(note.returned) if note.returned else None for note in notes],
    )


async def store_returned(connection: Connection, most: int) -> int:
    """Write annotations that came back to data_annotations, in a transaction, where the rows of their images are."""
    rows = await connection.fetch(_WAITING, most)
    if not rows:
        return 0
    columns = _columns([(row["run_id"], row["frame_id"]) for row in rows])
    await connection.execute(_STORE, *columns)
    await connection.execute(_STORED, *columns)
    return len(rows)


def _columns(keys: Collection[Key]) -> tuple[list[UUID], list[UUID]]:
    return [run for run, _ in keys], [frame for _, frame in keys]
