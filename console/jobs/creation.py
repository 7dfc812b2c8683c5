"""Makes a job of files of an upload: the job and its files in one transaction."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from console.http.errors import InvalidConfigError
from console.ids import is_id, new_id
from console.jobs.config import KeptConfig
from console.jobs.errors import RequestKeyReusedError, TooManyJobsError
from console.uploads.errors import upload_not_found
from infra.database.pool import Connection
from infra.texts import shortened
from schemas.ids import frame_id
from schemas.job_events import JobStatus

_DEVICES = 32
"""The frames of jobs are those of so many devices, so that as many workers share a job."""
_SHOWN_IDS = 5

# Locked, so that its files are not removed before the job is there.
_UPLOAD = """
SELECT id FROM uploads
WHERE upload_id = $1 AND client_id = $2 AND completed_at IS NOT NULL AND removed_at IS NULL AND expires_at > now()
FOR KEY SHARE
"""
_FILES = """
SELECT id, file_id, captured_at, sha256 FROM uploaded_files
WHERE upload_id = $1 AND ($2::varchar[] IS NULL OR file_id = ANY($2)) ORDER BY position
"""
_OPEN_JOBS = """
SELECT count(*) FROM (SELECT FROM jobs WHERE finished_at IS NULL AND client_id = $1 LIMIT $2) AS open
"""
_INSERT_JOB = """
INSERT INTO jobs
    (id, job_id, client_id, upload_id, retry_of, config, total_images, webhook_id, request_key, request_sha256)
VALUES ($1, $2, $3, $4, $5, $6, $7, (SELECT id FROM webhooks WHERE id = $8), $9, $10)
ON CONFLICT (client_id, request_key) WHERE request_key IS NOT NULL DO NOTHING RETURNING created_at
"""
_OF_REQUEST = """
SELECT job_id, created_at, total_images, status, request_sha256 FROM jobs WHERE client_id = $1 AND request_key = $2
"""
_WEBHOOK = "SELECT id FROM webhooks WHERE webhook_id = $1 AND client_id = $2"
_INSERT_FILES = """
INSERT INTO job_files (job_id, position, file_id, frame_id, device_id)
SELECT $1, * FROM unnest($2::int[], $3::uuid[], $4::uuid[], $5::varchar[])
"""


@dataclass(frozen=True, slots=True)
class NewJob:
    """Describes a job that was made."""

    job_id: str
    created_at: datetime
    file_count: int
    status: JobStatus = "queued"


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Is the key of a client for one request, which it sends again when it did not receive the response."""

    key: str
    sha256: str
    """Of what was asked: another request with the same key is refused"""


class SameRequestError(Exception):
    """The same request has made a job in another transaction; :func:`find_requested` finds it."""


@dataclass(frozen=True, slots=True)
class JobFile:
    """Identifies a file of a job, and what its frame's id is made of."""

    id: UUID
    captured_at: datetime
    sha256: str

    @property
    def device_id(self) -> str:
        """The device that the file's frame is of, the same in each job."""
        return f"jobs-{self.id.int % _DEVICES:02d}"

    @property
    def frame_id(self) -> UUID:
        """The id of the file's frame."""
        return frame_id(self.device_id, self.captured_at, self.sha256)


async def find_files(
    connection: Connection, client_id: str, upload_id: str, file_ids: Sequence[str] | None
) -> tuple[UUID, list[JobFile]]:
    """Return the row of an upload, and those of its files that are asked for (None: all), in the order of the upload.

    Raises UploadNotFoundError, and InvalidConfigError for ids of other files.
    """
    upload = await connection.fetchrow(_UPLOAD, upload_id, client_id)
    if upload is None:
        raise upload_not_found(upload_id)
    if file_ids is not None:
        name, count = Counter(file_ids).most_common(1)[0]
        if count > 1:
            raise InvalidConfigError.of("file_ids", f"Must name each file once; {shortened(name, 60)} is there twice")
    rows: list[Any] = await connection.fetch(_FILES, upload["id"], file_ids)
    if file_ids is not None and len(rows) < len(file_ids):
        known = {row["file_id"] for row in rows}
        other = [shortened(name, 60) for name in file_ids if name not in known][:_SHOWN_IDS]
        raise InvalidConfigError.of("file_ids", f"Must be files of upload {upload_id}; not {', '.join(other)}")
    if not rows:
        raise InvalidConfigError.of("upload_id", "The upload has no files")
    return upload["id"], [JobFile(row["id"], row["captured_at"], row["sha256"]) for row in rows]


async def insert_job(
    connection: Connection,
    client_id: str,
    upload: UUID | None,
    files: Sequence[JobFile],
    config: KeptConfig,
    *,
    most_open: int,
    retry_of: UUID | None = None,
    request: RequestKey | None = None,
) -> NewJob:
    """Write the job and its files; the caller's transaction keeps both or neither.

    Raises TooManyJobsError, and SameRequestError when a job of ``request`` was made at the same time.
    """
    open_jobs = await connection.fetchval(_OPEN_JOBS, client_id, most_open)
    if open_jobs >= most_open:
        raise TooManyJobsError(
            f"there are {open_jobs} jobs of this client that have not ended, as many as it may have "
            "(console.max_open_jobs)",
            details="Wait until some have ended, or cancel them.",
        )
    job, job_id = uuid4(), new_id("job")
    key, digest = (None, None) if request is None else (request.key, request.sha256)
    row = (job, job_id, client_id, upload, retry_of, config.to_json(), len(files), config.webhook, key, digest)
    created_at: datetime | None = await connection.fetchval(_INSERT_JOB, *row)
    if created_at is None:
        raise SameRequestError
    await connection.execute(
        _INSERT_FILES,
        job,
        list(range(len(files))),
        [file.id for file in files],
        [file.frame_id for file in files],
        [file.device_id for file in files],
    )
    return NewJob(job_id, created_at, len(files))


async def find_requested(connection: Connection, client_id: str, request: RequestKey) -> NewJob | None:
    """Return the job that ``request`` has made before. Raises RequestKeyReusedError when that was another request."""
    row = await connection.fetchrow(_OF_REQUEST, client_id, request.key)
    if row is None:
        return None
    if row["request_sha256"] != request.sha256:
        raise RequestKeyReusedError(
            f"another request was sent with this Idempotency-Key, and made job {row['job_id']}",
            details="Send a new key with each new request, and the same one only to send a request again.",
            field="Idempotency-Key",
        )
    return NewJob(row["job_id"], row["created_at"], row["total_images"], row["status"])


async def find_webhook(connection: Connection, client_id: str, webhook_id: str | None) -> UUID | None:
    """Return the row of the web-hook that a job names. Raises InvalidConfigError for one that the client has not."""
    if webhook_id is None:
        return None
    found: UUID | None = None
    if is_id(webhook_id, "whk"):
        found = await connection.fetchval(_WEBHOOK, webhook_id, client_id)
    if found is None:
        raise InvalidConfigError.of("webhook_id", f"Must be a web-hook of yours; not {shortened(webhook_id, 60)}")
    return found


def kept_config(text: str) -> KeptConfig:
    """Return the options in the row of a job."""
    return KeptConfig.model_validate(json.loads(text))
