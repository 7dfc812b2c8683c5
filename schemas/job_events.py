"""Defines what a frame of a job asks for, and the event that reports the end of a job."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from schemas.event_base import Event, EventPart, UtcDatetime

JOB_ID_PATTERN = r"^job_[a-z0-9]{8,32}$"
JobStatus = Literal["queued", "processing", "completed", "failed", "cancelled"]
"""In this order; a job never goes back."""
MAX_RULES = 65_536
"""The most characters of the rules of a frame: each of its job's frames carries them."""


class JobRules(EventPart):
    """Holds the rules that decide about what is found in a frame: they confirm, drop or relabel it."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    """What the rules are called, for people"""
    text: Annotated[str, Field(min_length=1, max_length=MAX_RULES)]
    """The rules: ISO Prolog"""


class JobFinished(Event):
    """Reports that a job has ended: all of its files have a result or an error, or it was cancelled."""

    event_name: ClassVar[str] = "job.finished"
    key_pattern: ClassVar[str] = JOB_ID_PATTERN
    key_about: ClassVar[str] = "The job's id as clients know it."

    id: UUID
    """Computed from the job: a job ends once"""
    job_id: Annotated[str, Field(pattern=JOB_ID_PATTERN)]
    job_uuid: UUID
    """The job_id of its frames and detections events"""
    client_id: Annotated[str, Field(min_length=1, max_length=255)]
    """The client that asked for the job"""
    status: Literal["completed", "failed", "cancelled"]
    """failed: not one file has a result"""
    created_at: UtcDatetime
    finished_at: UtcDatetime
    total_images: Annotated[int, Field(ge=1)]
    processed_images: Annotated[int, Field(ge=0)]
    """Those that have an end, detected or failed; fewer than all only when the job was cancelled"""
    failed_images: Annotated[int, Field(ge=0)]
    total_detections: Annotated[int, Field(ge=0)]
    error_code: Annotated[str, Field(max_length=100)] | None = None
    """Why it failed: the error of its files, if they have one in common"""
    error_message: Annotated[str, Field(max_length=4_000)] | None = None
