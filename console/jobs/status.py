"""Reads a job of a client, and makes the body that says what has become of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import JsonValue

from console.ids import is_id
from console.jobs.errors import JobNotFoundError
from console.jobs.estimate import Estimates
from infra.database.pool import Connection
from infra.texts import counted, shortened
from schemas.job_events import JobStatus
from schemas.timestamps import format_utc

SELECT = """
SELECT j.id, j.job_id, j.client_id, j.status, j.created_at, j.updated_at, j.started_at, j.finished_at, j.total_images,
    j.processed_images, j.failed_images, j.total_detections, j.confidence_sum, j.error_code, j.error_message,
    j.error_details, u.upload_id, f.job_id AS retry_of,
    j.config #> '{asked,sahi}' IS NOT NULL AND j.config #>> '{asked,sahi,enabled}' IS DISTINCT FROM 'false' AS sliced,
    j.config ? 'rules' AS ruled, clock_timestamp() AS read_at
FROM jobs AS j LEFT JOIN uploads AS u ON u.id = j.upload_id LEFT JOIN jobs AS f ON f.id = j.retry_of
"""
_JOB = f"{SELECT} WHERE j.job_id = $1 AND j.client_id = $2"
_FAILURES = """
SELECT u.file_id, u.filename, f.error_code AS code, f.error_message AS message
FROM job_files AS f JOIN uploaded_files AS u ON u.id = f.file_id
WHERE f.job_id = $1 AND f.status = 'failed' ORDER BY f.position LIMIT $2
"""
_MOST_FAILURES = 100
_RULES_PROBLEM = """
SELECT count(*) AS files, min(s.config #>> '{rules,problem}') AS text
FROM job_files AS f JOIN inference_sessions AS s ON s.id = f.session_id
WHERE f.job_id = $1 AND s.config #>> '{rules,problem}' IS NOT NULL
"""
_LONGEST_ID = 60


@dataclass(frozen=True, slots=True)
class JobRow:
    """Holds the row of a job."""

    id: UUID
    job_id: str
    client_id: str
    status: JobStatus
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    total_images: int
    processed_images: int
    """Files that have an end: a result or an error"""
    failed_images: int
    total_detections: int
    confidence_sum: float
    error_code: str | None
    error_message: str | None
    error_details: str | None
    upload_id: str | None
    retry_of: str | None
    """The job whose failed files it does again"""
    sliced: bool
    """Whether it asks for slices"""
    ruled: bool
    """Whether it has rules of its own"""
    read_at: datetime
    """By the clock of the database"""

    @property
    def percentage(self) -> float | int:
        """How much has an end; 100 only when all of it has."""
        share = self.processed_images / self.total_images * 100
        return int(share) if share == int(share) else min(round(share, 1), 99.9)

    @property
    def average_confidence(self) -> float:
        """The mean of the scores of all detections; 0 without any."""
        return round(self.confidence_sum / self.total_detections, 4) if self.total_detections else 0.0


def job_row(row: Mapping[str, Any]) -> JobRow:
    """Return the job in ``row`` of :data:`SELECT`."""
    return JobRow(**dict(row.items()))


async def find_job(connection: Connection, client_id: str, job_id: str) -> JobRow:
    """Return the job ``job_id`` of a client. Raises JobNotFoundError."""
    row: Any = await connection.fetchrow(_JOB, job_id, client_id) if is_id(job_id, "job") else None
    if row is None:
        raise job_not_found(job_id)
    return job_row(row)


def job_not_found(job_id: str, field: str = "job_id") -> JobNotFoundError:
    """Return the error for a ``job_id`` that the client does not have; ``field`` is the parameter that names it."""
    return JobNotFoundError(
        f"Job not found: {shortened(job_id, _LONGEST_ID)}", details="GET /api/v1/jobs lists your jobs.", field=field
    )


def may_have_faults(job: JobRow) -> bool:
    """Whether something may have gone wrong in ``job``, so that :func:`faults_of` is worth a query."""
    return bool(job.failed_images or (job.ruled and job.processed_images))


async def faults_of(connection: Connection, job: JobRow) -> dict[str, JsonValue]:
    """Return what went wrong in ``job``: `failures`, not more than a client can look at, and `warnings`."""
    found: dict[str, JsonValue] = {}
    if job.failed_images:
        rows = await connection.fetch(_FAILURES, job.id, _MOST_FAILURES)
        found["failures"] = [dict(row.items()) for row in rows]
    problem: Any = await connection.fetchrow(_RULES_PROBLEM, job.id) if job.ruled and job.processed_images else None
    if problem is not None and problem["files"]:
        files = counted(problem["files"], "file")
        found["warnings"] = [
            f"the rules gave no rulings for {files}, which are as the model found them: {problem['text']}"
        ]
    return found


async def asked_of(connection: Connection, job: JobRow) -> JsonValue:
    """Return the options that were asked of ``job``, as they were asked."""
    text: str = await connection.fetchval("SELECT config FROM jobs WHERE id = $1", job.id)
    asked: JsonValue = json.loads(text).get("asked", {})
    return asked


def job_body(job: JobRow, estimates: Estimates) -> dict[str, JsonValue]:
    """Return the description of ``job`` for its client."""
    progress: dict[str, JsonValue] = {
        "total_images": job.total_images,
        "processed_images": job.processed_images,
        "failed_images": job.failed_images,
        "percentage": job.percentage,
    }
    body: dict[str, JsonValue] = {
        "job_id": job.job_id,
        "status": job.status,
        "created_at": format_utc(job.created_at),
        "updated_at": format_utc(job.updated_at),
        "progress": progress,
    }
    if job.upload_id is not None:
        body["upload_id"] = job.upload_id
    if job.retry_of is not None:
        body["retry_of"] = job.retry_of
    if job.started_at is not None:
        body["started_at"] = format_utc(job.started_at)
    if job.status == "processing" and job.started_at is not None:
        progress["current_stage"] = _stage(job)
        due = estimates.of_running(job.read_at, job.started_at, job.processed_images, job.total_images)
        progress["estimated_completion"] = format_utc(due)
    elif job.finished_at is not None:
        body |= _end(job, job.finished_at)
    return body


def _end(job: JobRow, finished_at: datetime) -> dict[str, JsonValue]:
    at = format_utc(finished_at)
    if job.status == "cancelled":
        return {"cancelled_at": at}
    if job.status == "failed":
        error: dict[str, JsonValue] = {
            "code": job.error_code,
            "message": job.error_message,
            "details": job.error_details,
        }
        return {"failed_at": at, "error": error}
    took = finished_at - (job.started_at or job.created_at)
    summary: dict[str, JsonValue] = {
        "total_detections": job.total_detections,
        "average_confidence": job.average_confidence,
        "processing_time_seconds": round(max(0.0, took.total_seconds()), 3),
    }
    place = f"/api/v1/jobs/{job.job_id}"
    return {
        "completed_at": at,
        "summary": summary,
        "results_url": f"{place}/results",
        "visualization_url": f"{place}/visualization",
    }


def _stage(job: JobRow) -> str:
    if job.processed_images == 0:
        return "Waiting for the first result"
    return "Running SAHI inference" if job.sliced else "Running inference"
