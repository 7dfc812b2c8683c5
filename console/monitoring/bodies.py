"""Describes the response of the dashboard for the OpenAPI document; a test compares it with a real one."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from console.jobs.bodies import JobData


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class JobCounts(_Body):
    """How many jobs of the client have each status."""

    queued: int
    processing: int
    completed: int
    failed: int
    cancelled: int


class QueueLength(_Body):
    """How many jobs of all clients were in the queue at a time."""

    time: datetime
    queue_length: int


class DashboardData(_Body):
    """The jobs of the client, and the work of all clients."""

    current_job: JobData | None
    """Of the client's jobs in progress, the one that began first"""
    jobs: JobCounts
    queue_length: int
    """Jobs of all clients of which no file is with a detector yet"""
    waiting_files: int
    """Files of all clients that have no result yet"""
    active_workers: int | None
    """Detectors that work now; null when the broker does not say"""
    average_inference_seconds: float | None
    """The mean of the last 100 files; null before the first"""
    completed_per_minute: float
    """Files of all clients that got a result, in the last five minutes"""
    queue_history: list[QueueLength]
    """The last hour, minute by minute, the newest last"""


class DashboardBody(_Body):
    """The response of the dashboard."""

    status: Literal["success"]
    data: DashboardData
