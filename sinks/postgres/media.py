"""Notes which frames of media have an end, in the transaction that writes their results; see :mod:`console.media`."""

from __future__ import annotations

from collections.abc import Sequence

from infra.database.pool import Connection
from schemas.events import DetectionsMade
from sinks.postgres.job_counts import FileFailure

CHECK_MEDIA = "SELECT frame_id, session_id FROM media_frames LIMIT 0"
_RESULTS = """
UPDATE media_frames AS f SET status = 'detected', session_id = r.session_id
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS r (run_id, frame_id, session_id)
WHERE f.run_id = r.run_id AND f.frame_id = r.frame_id AND f.status IN ('queued', 'published')
"""
_FAILURES = """
UPDATE media_frames AS f SET status = 'failed', error_code = r.code, error_message = r.message
FROM unnest($1::uuid[], $2::uuid[], $3::varchar[], $4::varchar[]) AS r (run_id, frame_id, code, message)
WHERE f.run_id = r.run_id AND f.frame_id = r.frame_id AND f.status IN ('queued', 'published')
"""


async def note_media_results(connection: Connection, events: Sequence[DetectionsMade]) -> None:
    """Note the frames of ``events`` that are of media; a frame that has an end keeps it."""
    # In one order, so that two batches with the same frames do not wait for each other.
    rows = sorted((event.job_id, event.frame_id, event.id) for event in events if event.job_id is not None)
    if rows:
        runs, frames, sessions = zip(*rows, strict=True)
        await connection.execute(_RESULTS, runs, frames, sessions)


async def note_media_failures(connection: Connection, failures: Sequence[FileFailure]) -> None:
    """Note the frames of ``failures`` that are of media."""
    if failures:
        rows = sorted((each.job_id, each.frame_id, each.code, each.message) for each in failures)
        runs, frames, codes, messages = zip(*rows, strict=True)
        await connection.execute(_FAILURES, runs, frames, codes, messages)
