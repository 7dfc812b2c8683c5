"""Describes the responses about jobs for the OpenAPI document; a test compares them with real ones."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.job_events import JobStatus


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class AcceptedData(_Body):
    """A job that was made."""

    job_id: str = Field(examples=["job_a1b2c3d4e5f6g7h8"])
    status: Literal["queued", "processing"]
    created_at: datetime
    estimated_completion: datetime
    file_count: int
    status_url: str


class AcceptedBody(_Body):
    """The response to a request for a job."""

    status: Literal["accepted"]
    message: str
    data: AcceptedData


class Progress(_Body):
    """How many files have an end."""

    total_images: int
    processed_images: int
    """Those that have a result or an error; it never falls"""
    failed_images: int
    percentage: float
    current_stage: str | None = None
    """While it is processing"""
    estimated_completion: datetime | None = None
    """While it is processing"""


class Summary(_Body):
    """What a completed job has found."""

    total_detections: int
    average_confidence: float
    processing_time_seconds: float


class JobError(_Body):
    """Why a job has no results."""

    code: str
    message: str
    details: str | None


class FileFault(_Body):
    """Why a file has no result."""

    code: str
    message: str


class FailedFile(FileFault):
    """A file that has no result."""

    file_id: str
    filename: str


class JobData(_Body):
    """A job, and what has become of it."""

    job_id: str
    status: JobStatus
    created_at: datetime
    updated_at: datetime
    progress: Progress
    upload_id: str | None = None
    retry_of: str | None = None
    """The job whose failed files it does again"""
    started_at: datetime | None = None
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    cancelled_at: datetime | None = None
    summary: Summary | None = None
    """When it is completed"""
    results_url: str | None = None
    visualization_url: str | None = None
    error: JobError | None = None
    """When it has failed: not one file has a result"""
    failures: list[FailedFile] | None = None
    """In its status: the files that have no result, at most 100"""
    warnings: list[str] | None = None
    """In its status: rules that gave no rulings"""
    config: dict[str, Any] | None = None
    """The options that were asked for; only of one job, not in lists"""


class JobBody(_Body):
    """The response about one job."""

    status: Literal["success"]
    data: JobData


class JobsData(_Body):
    """Some jobs of the client, the newest first."""

    jobs: list[JobData]
    next_before: str | None
    """The next page is that with this as ``before``; null: there are no older ones"""


class JobsBody(_Body):
    """The response with a list of jobs."""

    status: Literal["success"]
    data: JobsData


class FileData(_Body):
    """A file of a job."""

    file_id: str
    filename: str
    status: Literal["queued", "processing", "completed", "failed", "cancelled"]
    detection_count: int | None
    error: FileFault | None


class FilesData(_Body):
    """Some files of a job, in the order of the upload."""

    job_id: str
    files: list[FileData]
    next_after: int | None
    """The next page is that with this as ``after``; null: there are no more"""


class FilesBody(_Body):
    """The response with the files of a job."""

    status: Literal["success"]
    data: FilesData
