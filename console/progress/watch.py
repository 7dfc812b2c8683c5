"""Reads what has changed of all jobs that clients watch, in one query at a time, and wakes those clients."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from console.jobs.estimate import Estimates
from console.jobs.status import SELECT, JobRow, job_row
from console.progress.errors import TooManyWatchersError
from console.progress.events import event_bytes
from console.settings import ConsoleSettings
from infra.database.pool import Database
from infra.failure.backoff import Backoff
from infra.failure.error_texts import error_code, error_text
from infra.failure.retry import StoppedError, run_until_stop
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from infra.waiting import wait_until_set
from schemas.errors import StandgaleError
from sinks.metrics import SSE_CLIENTS

logger = logging.getLogger(__name__)

STREAM = "jobs"
_READ_TIMEOUT_S = 5.0
_PLACES = {"queued": 0, "processing": 1, "completed": 2, "failed": 2, "cancelled": 2}
_CHANGED = f"""
{SELECT} JOIN unnest($1::uuid[], $2::varchar[], $3::int[]) AS w (id, status, processed) ON w.id = j.id
WHERE j.status <> w.status OR j.processed_images <> w.processed
"""


class WatchedJob:
    """Holds a job that is watched, with the event about its present state, which all its watchers are sent."""

    def __init__(self, row: JobRow, event: bytes) -> None:
        self.row = row
        self.event = event
        self.watchers: set[Watcher] = set()


class Watcher:
    """Is one client that watches one job."""

    def __init__(self, job: WatchedJob) -> None:
        self._job = job
        self._woken = asyncio.Event()

    @property
    def row(self) -> JobRow:
        """The job as it was read last."""
        return self._job.row

    @property
    def event(self) -> bytes:
        """The event about :attr:`row`."""
        return self._job.event

    def wake(self) -> None:
        """End its wait."""
        self._woken.set()

    async def wait(self, seconds: float) -> None:
        """Wait until the job has changed or the stream is to end, at most ``seconds``."""
        await wait_until_set(self._woken, seconds)
        self._woken.clear()


class JobWatch:
    """Is the component that reads the jobs that are watched; without watchers it reads nothing."""

    name = "job-progress"

    def __init__(self, database: Database, settings: ConsoleSettings, retry: RetrySettings | None = None) -> None:
        self.closing = False
        self._database = database
        self._settings = settings
        self._backoff = Backoff(retry or RetrySettings())
        self._estimates = Estimates()
        self._jobs: dict[UUID, WatchedJob] = {}
        self._of_client: Counter[str] = Counter()

    @contextmanager
    def watching(self, row: JobRow, client_id: str) -> Iterator[Watcher]:
        """Give a watcher of the job ``row`` for the block. Raises TooManyWatchersError."""
        self._require_room(client_id)
        job = self._jobs.get(row.id)
        if job is None:
            job = self._jobs[row.id] = WatchedJob(row, event_bytes(row, self._estimates))
        else:
            self._update(job, row)
        watcher = Watcher(job)
        job.watchers.add(watcher)
        self._of_client[client_id] += 1
        SSE_CLIENTS.labels(STREAM).inc()
        try:
            yield watcher
        finally:
            SSE_CLIENTS.labels(STREAM).dec()
            self._of_client[client_id] -= 1
            if self._of_client[client_id] == 0:
                del self._of_client[client_id]
            job.watchers.discard(watcher)
            if not job.watchers:
                del self._jobs[row.id]

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Read until ``stop`` is set, then end all streams. After an error it is not ready, and tries again."""
        failing = False
        try:
            while not stop.is_set():
                health.beat()
                try:
                    await run_until_stop(self.read(), stop, "reading watched jobs", timeout_s=_READ_TIMEOUT_S)
                except StoppedError:
                    return
                except (StandgaleError, OSError) as error:
                    health.set_not_ready(error_text(error))
                    if not failing:
                        text = error_text(error)
                        logger.warning("the progress of jobs waits: %s", text, extra={"code": error_code(error)})
                    failing = True
                    await self._backoff.wait(stop)
                    continue
                if failing:
                    logger.info("the progress of jobs is read again")
                failing = False
                self._backoff.reset()
                health.set_ready()
                await health.pause(self._settings.watch_interval_s, stop)
        finally:
            self.closing = True
            for job in self._jobs.values():
                _wake(job)

    async def read(self) -> None:
        """Read once what has changed of the watched jobs. Raises the errors of the database."""
        if not self._jobs:
            return
        rows = [job.row for job in self._jobs.values()]
        asked = [row.id for row in rows], [row.status for row in rows], [row.processed_images for row in rows]
        async with self._database.acquire() as connection:
            await self._estimates.refresh(connection)
            changed: list[Any] = await connection.fetch(_CHANGED, *asked)
        for each in changed:
            job = self._jobs.get(each["id"])
            if job is not None:
                self._update(job, job_row(each))

    def _update(self, job: WatchedJob, row: JobRow) -> None:
        """Take ``row`` unless it was read before the row that is known: progress never goes back."""
        if _place(row) > _place(job.row):
            job.row, job.event = row, event_bytes(row, self._estimates)
            _wake(job)

    def _require_room(self, client_id: str) -> None:
        settings, all_clients = self._settings, self._of_client.total()
        if all_clients >= settings.max_watchers:
            raise TooManyWatchersError(all_clients, "console.max_watchers")
        if self._of_client[client_id] >= settings.max_client_watchers:
            raise TooManyWatchersError(self._of_client[client_id], "console.max_client_watchers")


def _place(row: JobRow) -> tuple[int, int]:
    return _PLACES[row.status], row.processed_images


def _wake(job: WatchedJob) -> None:
    for watcher in job.watchers:
        watcher.wake()
