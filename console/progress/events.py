"""Makes the server-sent events about jobs."""

from __future__ import annotations

import orjson

from console.jobs.estimate import Estimates
from console.jobs.status import JobRow, job_body

HEARTBEAT = b": heartbeat\n\n"


def event_id(job: JobRow) -> str:
    """Return the id of the event about ``job`` as it is: the same state has the same id."""
    return f"{job.status}-{job.processed_images}-{job.failed_images}"


def event_bytes(job: JobRow, estimates: Estimates) -> bytes:
    """Return the event about ``job``: `progress`, and at its end `end`."""
    name = "progress" if job.finished_at is None else "end"
    data = orjson.dumps(job_body(job, estimates))
    return f"event: {name}\nid: {event_id(job)}\ndata: ".encode() + data + b"\n\n"
