"""Publishes the frames of jobs, so many at a time that no job and no client keeps the detectors from the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from console.jobs.frames import make_frames
from console.jobs.queue import WaitingFile, configs_of, late_files, mark_published, take_files, try_lock
from console.settings import ConsoleSettings
from infra.broker.limited_publish import publish_acceptable
from infra.broker.port import OutRecord, Publisher
from infra.database.pool import Connection, Database
from infra.database.transaction import transaction
from infra.failure.rounds import Rounds, run_rounds
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from sinks.metrics import JOBS
from sinks.postgres.job_counts import FileFailure, count_failures
from sinks.postgres.jobs import note_ended

_MOST = 100
_ROUNDS = Rounds("publishing frames of jobs", "frames of jobs wait", idle_s=0.25, busy_s=0.1)
_PUBLISH_TIMEOUT_S = 10.0
_LATE_EVERY_S = 10.0
_TOO_LARGE = "STORAGE_ERROR"


class JobPublisher:
    """Is the component that publishes; several may run, and one of them publishes at a time.

    Killed between the publish and its note in the database, it publishes frames again, with the same ids.
    """

    name = "job-frames"

    def __init__(
        self, database: Database, publisher: Publisher, settings: ConsoleSettings, retry: RetrySettings
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._settings = settings
        self._retry = retry
        self._late_at = 0.0

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Publish until ``stop`` is set. After an error it is not ready, and tries again."""
        await run_rounds(_ROUNDS, self.publish_some, stop, health, self._retry)

    async def publish_some(self) -> int:
        """Publish files whose turn it is; return how many. Raises the errors of database and broker."""
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            if not await try_lock(connection):
                return 0
            files = await self._take(connection)
            if not files:
                return 0
            frames, failures = make_frames(files, await configs_of(connection, files))
            failures += await self._publish(frames)
            begun = await mark_published(connection, files)
            ended = await count_failures(connection, failures)
        JOBS.labels("processing").inc(begun)
        note_ended(ended)
        return len(files)

    async def _take(self, connection: Connection) -> list[WaitingFile]:
        settings = self._settings
        files = await take_files(
            connection, window=settings.job_window, most_published=settings.max_published, most=_MOST
        )
        now = time.monotonic()
        if now >= self._late_at:
            files += await late_files(connection, after_s=settings.publish_again_s, most=_MOST)
            self._late_at = now + min(_LATE_EVERY_S, settings.publish_again_s / 10)
        return files

    async def _publish(self, frames: Sequence[tuple[WaitingFile, OutRecord]]) -> list[FileFailure]:
        """Publish ``frames``; return those that are larger than their topic accepts."""
        refused = await publish_acceptable(self._publisher, frames, _PUBLISH_TIMEOUT_S)
        return [
            FileFailure(file.job_id, file.frame_id, _TOO_LARGE, f"The job asks for too much: {error}")
            for file, error in refused
        ]
