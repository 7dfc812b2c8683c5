"""Reads jobs that have ended, their files, and the detections of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from console.http.connection import request_connection
from console.ids import is_id
from console.jobs.status import job_not_found
from console.parts import ConsoleParts
from console.results.errors import ResultsNotReadyError
from console.results.threads import ResultThreads
from console.uploads.errors import file_not_found
from console.uploads.records import UploadedFile

# Those of the model's card and of rules, by class number; a version that was activated meanwhile has others.
_CLASSES = """
SELECT s.config -> 'classes' AS names, min(jf.position) AS first
FROM job_files jf JOIN inference_sessions s ON s.id = jf.session_id
WHERE jf.job_id = $1 AND s.config ? 'classes' GROUP BY 1 ORDER BY first
"""
_WITH_RESULTS = ("completed", "cancelled")
_ENDED = ("completed", "failed")
_JOB = "SELECT id, job_id, status, config, error_message FROM jobs WHERE client_id = $1 AND job_id = $2"
# Equal pictures of a job have one frame, and so one session; each is a file of its own all the same.
_FILES = """
SELECT f.*, jf.status, jf.session_id, jf.num_detections, jf.error_code, jf.error_message, s.config -> 'rules' AS rules
FROM job_files jf JOIN uploaded_files f ON f.id = jf.file_id LEFT JOIN inference_sessions s ON s.id = jf.session_id
WHERE jf.job_id = $1 AND ($2::varchar IS NULL OR f.file_id = $2) ORDER BY jf.position
"""
_FOUND = """
SELECT label, class_id, confidence, bbox_x1, bbox_y1, bbox_x2, bbox_y2, corners, metadata -> 'rule' AS rule
FROM detections
WHERE session_id = $1 AND image_id = (SELECT image_id FROM inference_sessions WHERE id = $1)
ORDER BY confidence DESC, id
"""
_LATEST = """
SELECT j.job_id FROM job_files jf JOIN jobs j ON j.id = jf.job_id JOIN uploaded_files f ON f.id = jf.file_id
WHERE j.client_id = $1 AND f.file_id = $2 AND j.status = ANY($3) AND jf.status = 'completed'
ORDER BY j.finished_at DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class ResultJob:
    """Is a job whose results are complete, or that was cancelled: then those of the files that were done."""

    id: UUID
    job_id: str
    config: dict[str, Any]
    is_cancelled: bool = False

    @property
    def visualization(self) -> dict[str, Any]:
        """What was asked about pictures."""
        found = self.config.get("asked", {}).get("visualization")
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class ResultFile:
    """Is one file of a job: what it is, and whether it has a result."""

    file: UploadedFile
    session: UUID | None
    count: int
    error_code: str | None
    error_message: str | None
    rules: dict[str, Any] | None = None
    """What rules did with its detections; None where it had none."""

    @property
    def filename(self) -> str:
        """Its name, as the client gave it."""
        return self.file.filename

    @property
    def width(self) -> int:
        """Pixels."""
        return self.file.image.width

    @property
    def height(self) -> int:
        """Pixels."""
        return self.file.image.height

    @property
    def failed(self) -> bool:
        """Whether no detector could process it."""
        return self.session is None


@dataclass(frozen=True, slots=True)
class Found:
    """Is one detection of a file; the box is normalised to the picture, as are the corners of a rotated one."""

    label: str
    class_id: int
    confidence: float
    box: tuple[float, float, float, float]
    corners: tuple[float, ...] | None
    rule: dict[str, Any] | None = None
    """The rule that confirmed or relabelled it."""


class ResultRecords:
    """Reads results of one client's jobs. All methods raise the errors of the database besides their own."""

    def __init__(self, parts: ConsoleParts) -> None:
        self._parts = parts
        self.threads = ResultThreads()

    async def job(self, client_id: str, job_id: str) -> ResultJob:
        """Return a job that is completed or cancelled. Raises JobNotFoundError and ResultsNotReadyError."""
        row = None
        if is_id(job_id, "job"):
            async with request_connection(self._parts) as connection:
                row = await connection.fetchrow(_JOB, client_id, job_id)
        if row is None:
            raise job_not_found(job_id)
        if row["status"] not in _WITH_RESULTS:
            raise _not_ready(job_id, row["status"], row["error_message"])
        return ResultJob(row["id"], row["job_id"], json.loads(row["config"]), row["status"] == "cancelled")

    async def files(self, job: ResultJob, file_id: str | None = None) -> Sequence[ResultFile]:
        """Return the files of a job that have an end, or the one with ``file_id``.

        Raises FileNotFoundInUploadError for a file of another job, and ResultsNotReadyError where a job was cancelled
        before the file, or any of its files, was done.
        """
        if file_id is not None and not is_id(file_id, "img"):
            raise file_not_found(file_id)
        async with request_connection(self._parts) as connection:
            rows = await connection.fetch(_FILES, job.id, file_id)
        if file_id is not None and not rows:
            raise file_not_found(file_id)
        ended = [row for row in rows if row["status"] in _ENDED]
        if not ended:
            raise _cancelled_before(job.job_id, None if file_id is None else rows[0]["filename"])
        return [
            ResultFile(
                UploadedFile.of(row),
                row["session_id"],
                row["num_detections"],
                row["error_code"],
                row["error_message"],
                _json(row["rules"]),
            )
            for row in ended
        ]

    async def classes(self, job: ResultJob) -> dict[int, str]:
        """Return the labels of class numbers that the models and rules of a job have."""
        async with request_connection(self._parts) as connection:
            rows = await connection.fetch(_CLASSES, job.id)
        names: dict[int, str] = {}
        for row in rows:
            for number, name in enumerate(json.loads(row["names"])):
                names.setdefault(number, name)
        return names

    async def found(self, file: ResultFile) -> Sequence[Found]:
        """Return the detections of a file, the best first; none of one that failed."""
        if file.session is None:
            return ()
        async with request_connection(self._parts) as connection:
            rows = await connection.fetch(_FOUND, file.session)
        return await self.threads.run(_found_in, rows)

    async def latest_job(self, client_id: str, file_id: str) -> ResultJob:
        """Return the job that was the last one with a result of the file. Raises ResultsNotReadyError without one."""
        job_id = None
        if is_id(file_id, "img"):
            async with request_connection(self._parts) as connection:
                job_id = await connection.fetchval(_LATEST, client_id, file_id, _WITH_RESULTS)
        if job_id is None:
            raise ResultsNotReadyError(
                f"no job that has ended has a result of the file {file_id[:60]!r}",
                details="Ask for a job with it, and wait for its end.",
                field="file_id",
            )
        return await self.job(client_id, job_id)


def _found_in(rows: Sequence[Any]) -> list[Found]:
    return [
        Found(
            row["label"],
            row["class_id"] or 0,
            round(row["confidence"], 4),
            (
                round(row["bbox_x1"], 6),
                round(row["bbox_y1"], 6),
                round(row["bbox_x2"], 6),
                round(row["bbox_y2"], 6),
            ),
            None if row["corners"] is None else tuple(row["corners"]),
            _json(row["rule"]),
        )
        for row in rows
    ]


def _not_ready(job_id: str, status: str, error: str | None) -> ResultsNotReadyError:
    what = {
        "queued": "it waits for a detector",
        "processing": "it is being processed",
        "failed": f"it failed: {error}" if error else "it failed",
    }[status]
    return ResultsNotReadyError(
        f"job {job_id} has no results: {what}",
        details=f"Its status is {status}; GET /api/v1/jobs/{job_id}/status says more.",
        field="job_id",
    )


def _cancelled_before(job_id: str, filename: str | None) -> ResultsNotReadyError:
    return ResultsNotReadyError(
        f"job {job_id} was cancelled before {'any of its files' if filename is None else filename} was done",
        details=f"POST /api/v1/jobs/{job_id}/retry makes a job of what was not done.",
        field="job_id" if filename is None else "file_id",
    )


def _json(text: str | None) -> dict[str, Any] | None:
    """Return a JSON object of the database; None where there is none."""
    value = None if text is None else json.loads(text)
    return value if isinstance(value, dict) else None
