"""Writes the failures of jobs' files; their results are counted by :mod:`sinks.postgres.sink`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from infra.database.pool import Database
from infra.database.transaction import transaction
from schemas.events import DeadLetter
from schemas.topics import FRAMES_DEAD, SINKS_DEAD
from sinks.metrics import JOB_SECONDS, JOBS
from sinks.postgres.job_counts import EndedJob, count_failures
from sinks.postgres.job_failures import failure_of
from sinks.postgres.media import CHECK_MEDIA, note_media_failures

CHECK_JOBS = "SELECT processed_images FROM jobs LIMIT 0; SELECT frame_id FROM job_files LIMIT 0"


class JobFailures:
    """Is the sink of the dead letters of frames and detections that belong to jobs; others cost it nothing."""

    name: str = "job-failures"
    event: type[DeadLetter] = DeadLetter
    topics: tuple[str, ...] = (FRAMES_DEAD, SINKS_DEAD)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self) -> None:
        """Check that the tables exist. Raises DatabaseUnavailableError, and RefusedError (also before a migration)."""
        async with self._database.acquire() as connection:
            await connection.execute(CHECK_JOBS)
            await connection.execute(CHECK_MEDIA)

    async def write(self, events: Sequence[DeadLetter]) -> None:
        """Make ``events`` durable, all or none; the errors are those of :class:`sinks.postgres.sink.PostgresSink`."""
        failures = [failure for letter in events if (failure := failure_of(letter)) is not None]
        if not failures:
            return
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            ended = await count_failures(connection, failures)
            await note_media_failures(connection, failures)
        note_ended(ended)

    async def close(self) -> None:
        """Do nothing: the connections belong to the database, and the process that opened it closes it."""


def note_ended(jobs: Iterable[EndedJob]) -> None:
    """Count ``jobs``, whose end is committed, in the metrics."""
    for job in jobs:
        JOBS.labels(job.status).inc()
        JOB_SECONDS.labels(job.status).observe(job.seconds)
