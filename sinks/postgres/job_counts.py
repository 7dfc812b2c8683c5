"""Counts the files of jobs that have an end, and ends jobs, in the transaction that writes their results.

A file gets one end, the first: so the counts of a job follow from the rows that were changed, whatever is written again
and in which order. Rows of jobs are locked in the order of their ids, before those of their files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from infra.database.pool import Connection
from infra.outbox.outbox import add_event
from infra.texts import counted
from schemas.events import DetectionsMade
from schemas.ids import job_finished_id
from schemas.job_events import JobFinished
from schemas.topics import JOBS

SOURCE = "/standgale/jobs"

LOCK_JOBS = "SELECT id FROM jobs WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE"

_COUNT = """
counted AS (
    SELECT job_id, count(*) AS files, count(*) FILTER (WHERE status = 'failed') AS failed,
        sum(num_detections) AS detections, sum(confidence_sum) AS confidence
    FROM ended GROUP BY job_id
)
UPDATE jobs SET
    processed_images = processed_images + counted.files,
    failed_images = failed_images + counted.failed,
    total_detections = total_detections + counted.detections,
    confidence_sum = jobs.confidence_sum + counted.confidence,
    -- The answer may be read before it is noted that its frame was published.
    status = CASE WHEN status = 'queued' THEN 'processing' ELSE status END,
    started_at = coalesce(started_at, clock_timestamp()),
    updated_at = greatest(updated_at, clock_timestamp())
FROM counted WHERE jobs.id = counted.job_id
RETURNING jobs.id, jobs.finished_at IS NULL AND jobs.processed_images = jobs.total_images AS complete,
    jobs.failed_images = jobs.total_images AS without_results
"""
_RESULTS = f"""
WITH ended AS (
    UPDATE job_files AS f SET
        status = 'completed', finished_at = clock_timestamp(), session_id = r.session_id,
        num_detections = r.num_detections
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[], $5::float8[])
        AS r (job_id, frame_id, session_id, num_detections, confidence_sum)
    WHERE f.job_id = r.job_id AND f.frame_id = r.frame_id AND f.status IN ('queued', 'published')
    RETURNING f.job_id, f.status, f.num_detections, r.confidence_sum
),
{_COUNT}
"""  # noqa: S608 (constants)
_FAILURES = f"""
WITH ended AS (
    UPDATE job_files AS f SET
        status = 'failed', finished_at = clock_timestamp(), error_code = r.code, error_message = r.message
    FROM unnest($1::uuid[], $2::uuid[], $3::varchar[], $4::varchar[]) AS r (job_id, frame_id, code, message)
    WHERE f.job_id = r.job_id AND f.frame_id = r.frame_id AND f.status IN ('queued', 'published')
    RETURNING f.job_id, f.status, f.num_detections, 0 AS confidence_sum
),
{_COUNT}
"""  # noqa: S608 (constants)
_REASONS = """
SELECT error_code AS code, min(error_message) AS message, count(DISTINCT error_message) AS messages, count(*) AS files
FROM job_files WHERE job_id = $1 AND status = 'failed' GROUP BY error_code ORDER BY count(*) DESC, error_code
"""
_END = """
UPDATE jobs SET
    status = CASE
        WHEN $2 THEN 'cancelled' WHEN failed_images < processed_images THEN 'completed' ELSE 'failed' END,
    finished_at = clock_timestamp(), updated_at = greatest(updated_at, clock_timestamp()),
    error_code = $3, error_message = $4, error_details = $5
WHERE id = $1 AND finished_at IS NULL
RETURNING *
"""
_MIXED = "INFERENCE_ERROR"
_Error = tuple[str | None, str | None, str | None]
"""Code, message and details"""
_NO_ERROR: _Error = (None, None, None)


@dataclass(frozen=True, slots=True)
class FileFailure:
    """Says why a file of a job has no result."""

    job_id: UUID
    frame_id: UUID
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class EndedJob:
    """Describes a job that has ended in this transaction, for metrics after its commit."""

    status: str
    seconds: float
    """From its start"""


async def count_results(connection: Connection, events: Sequence[DetectionsMade]) -> list[EndedJob]:
    """Count the results in ``events``, whose rows are written in this transaction, and return the jobs that end."""
    results: dict[tuple[UUID, UUID], DetectionsMade] = {}
    for event in events:
        if event.job_id is not None:
            results.setdefault((event.job_id, event.frame_id), event)
    if not results:
        return []
    rows = sorted(results.items())
    made = [event for _, event in rows]
    return await _count(
        connection,
        _RESULTS,
        [job for (job, _), _ in rows],
        [frame for (_, frame), _ in rows],
        [event.id for event in made],
        [len(event.detections) for event in made],
        [sum(detection.confidence for detection in event.detections) for event in made],
    )


async def count_failures(connection: Connection, failures: Sequence[FileFailure]) -> list[EndedJob]:
    """Write the ``failures``, count them, and return the jobs that end with them."""
    first: dict[tuple[UUID, UUID], FileFailure] = {}
    for failure in failures:
        first.setdefault((failure.job_id, failure.frame_id), failure)
    if not first:
        return []
    rows = sorted(first.items())
    return await _count(
        connection,
        _FAILURES,
        [job for (job, _), _ in rows],
        [frame for (_, frame), _ in rows],
        [failure.code for _, failure in rows],
        [failure.message for _, failure in rows],
    )


async def _count(connection: Connection, statement: str, jobs: list[UUID], *columns: list[Any]) -> list[EndedJob]:
    await connection.execute(LOCK_JOBS, jobs)
    changed = await connection.fetch(statement, jobs, *columns)
    complete = sorted((row["id"], row["without_results"]) for row in changed if row["complete"])
    return [
        await _end_job(connection, job, await _error_of(connection, job) if without_results else _NO_ERROR)
        for job, without_results in complete
    ]


async def cancel(connection: Connection, job: UUID) -> EndedJob:
    """End ``job``, whose row is locked and has no end, as cancelled, and put `job.finished` into the outbox."""
    return await _end_job(connection, job, _NO_ERROR, is_cancelled=True)


async def _end_job(connection: Connection, job: UUID, error: _Error, *, is_cancelled: bool = False) -> EndedJob:
    row: Any = await connection.fetchrow(_END, job, is_cancelled, *error)
    event = JobFinished(
        id=job_finished_id(job),
        job_id=row["job_id"],
        job_uuid=job,
        client_id=row["client_id"],
        status=row["status"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
        total_images=row["total_images"],
        processed_images=row["processed_images"],
        failed_images=row["failed_images"],
        total_detections=row["total_detections"],
        error_code=row["error_code"],
        error_message=row["error_message"],
    )
    await add_event(connection, JOBS, event, id=event.id, source=SOURCE, time=event.finished_at, key=event.job_id)
    began = row["started_at"] or row["created_at"]
    return EndedJob(row["status"], max(0.0, (row["finished_at"] - began).total_seconds()))


async def _error_of(connection: Connection, job: UUID) -> _Error:
    """Return the error of ``job``, none of whose files has a result."""
    reasons: list[Any] = await connection.fetch(_REASONS, job)
    files = sum(reason["files"] for reason in reasons)
    if len(reasons) == 1:
        (only,) = reasons
        others = "" if only["messages"] == 1 else f", for {only['messages']} different reasons; see each file"
        return only["code"], only["message"], f"{counted(files, 'file')} failed{others}"
    listed = ", ".join(f"{reason['files']} × {reason['code']}" for reason in reasons)
    return _MIXED, f"All {files} files failed, for different reasons", f"{listed}; see each file"
