"""Cancels jobs, and does the failed files of a job again, as a new job."""

from __future__ import annotations

from typing import Any

from console.jobs.creation import JobFile, NewJob, insert_job, kept_config
from console.jobs.errors import JobEndedError, NothingToRetryError
from console.jobs.status import job_not_found
from console.uploads.errors import upload_not_found
from infra.database.pool import Connection
from sinks.postgres.job_counts import EndedJob, cancel

_LOCK = """
SELECT id, job_id, status, finished_at, upload_id, config FROM jobs
WHERE job_id = $1 AND client_id = $2 FOR NO KEY UPDATE
"""
_CANCEL_FILES = """
UPDATE job_files SET status = 'cancelled', finished_at = clock_timestamp() WHERE job_id = $1 AND status = 'queued'
"""
_UPLOAD = """
SELECT upload_id, removed_at IS NULL AND expires_at > now() AS is_there FROM uploads WHERE id = $1 FOR KEY SHARE
"""
_OPEN_RETRY = """
SELECT job_id, created_at, total_images AS file_count, status FROM jobs
WHERE retry_of = $1 AND finished_at IS NULL LIMIT 1
"""
# Those of a cancelled job that are with a detector have no result yet, and nobody sees one that comes later.
_FAILED = """
SELECT u.id, u.captured_at, u.sha256 FROM job_files AS f JOIN uploaded_files AS u ON u.id = f.file_id
WHERE f.job_id = $1 AND f.status <> 'completed' ORDER BY f.position
"""


async def cancel_job(connection: Connection, client_id: str, job_id: str) -> EndedJob | None:
    """Cancel a job in the transaction of ``connection``; return it, or None when it was cancelled before.

    Files that wait are cancelled with it; results of those that are with the detectors are still written.
    Raises JobNotFoundError and JobEndedError.
    """
    job = await _locked(connection, client_id, job_id)
    if job["status"] == "cancelled":
        return None
    if job["finished_at"] is not None:
        raise JobEndedError(
            f"the job is {job['status']}, so it cannot be cancelled", details="Look at its status.", field="job_id"
        )
    await connection.execute(_CANCEL_FILES, job["id"])
    return await cancel(connection, job["id"])


async def retry_job(connection: Connection, client_id: str, job_id: str, *, most_open: int) -> tuple[NewJob, bool]:
    """Make a job of the files of an ended job that have no result; return it, and whether it is new.

    While such a job is not complete it is returned again. Raises JobNotFoundError, NothingToRetryError,
    UploadNotFoundError and TooManyJobsError.
    """
    job = await _locked(connection, client_id, job_id)
    if job["finished_at"] is None:
        raise NothingToRetryError(
            f"the job is {job['status']}; its failed files can be done again when it has ended",
            details="Wait for its end, or cancel it.",
            field="job_id",
        )
    open_retry: Any = await connection.fetchrow(_OPEN_RETRY, job["id"])
    if open_retry is not None:
        return NewJob(**dict(open_retry.items())), False
    files = [
        JobFile(row["id"], row["captured_at"], row["sha256"]) for row in await connection.fetch(_FAILED, job["id"])
    ]
    if not files:
        raise NothingToRetryError(
            "all files of the job have a result", details="Ask for a new job to do them again.", field="job_id"
        )
    upload: Any = await connection.fetchrow(_UPLOAD, job["upload_id"])
    if upload is None or not upload["is_there"]:
        raise upload_not_found("of this job" if upload is None else upload["upload_id"])
    config = kept_config(job["config"])
    made = await insert_job(
        connection, client_id, job["upload_id"], files, config, most_open=most_open, retry_of=job["id"]
    )
    return made, True


async def _locked(connection: Connection, client_id: str, job_id: str) -> Any:
    job = await connection.fetchrow(_LOCK, job_id, client_id)
    if job is None:
        raise job_not_found(job_id)
    return job
