"""Estimates when jobs will be complete, from those that were completed last and from the files that wait."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from infra.database.pool import Connection

_REFRESH_S = 5.0
_FIRST_GUESS_S = 1.0
# Of the last jobs; one that waited for a detector for hours says nothing about the next one.
_SPEED = """
SELECT sum(extract(epoch FROM finished_at - started_at)) AS seconds, sum(processed_images) AS images
FROM (
    SELECT started_at, finished_at, processed_images FROM jobs
    WHERE finished_at IS NOT NULL AND status = 'completed' ORDER BY finished_at DESC LIMIT 20
) AS last
"""
_WAITING = """
SELECT (SELECT count(*) FROM job_files WHERE status IN ('queued', 'published')) AS files,
    (SELECT count(*) FROM jobs WHERE finished_at IS NULL AND status = 'processing') AS jobs
"""


@dataclass(frozen=True, slots=True)
class Load:
    """Describes how fast jobs are, and how much waits."""

    seconds_per_image: float = _FIRST_GUESS_S
    waiting_files: int = 0
    running_jobs: int = 0

    def until_done(self, files: int) -> timedelta:
        """Return how long a new job of ``files`` will take: its share of the detectors comes after what waits."""
        ahead = self.waiting_files / max(1, self.running_jobs)
        return timedelta(seconds=(files + ahead) * self.seconds_per_image)


class Estimates:
    """Keeps the load of the last seconds, so that requests need not ask for it."""

    def __init__(self) -> None:
        self._load = Load()
        self._read_at = -_REFRESH_S

    @property
    def load(self) -> Load:
        """The load as it was read last."""
        return self._load

    async def refresh(self, connection: Connection) -> Load:
        """Return the load, read anew when it is some seconds old."""
        now = time.monotonic()
        if now - self._read_at >= _REFRESH_S:
            # Before the queries, so that requests at the same time do not all read it.
            self._read_at = now
            speed = await connection.fetchrow(_SPEED)
            waiting = await connection.fetchrow(_WAITING)
            per_image = float(speed["seconds"]) / speed["images"] if speed and speed["images"] else _FIRST_GUESS_S
            if waiting is not None:
                self._load = Load(per_image, waiting["files"], waiting["jobs"])
        return self._load

    def of_running(self, now: datetime, started_at: datetime, processed: int, total: int) -> datetime:
        """Return when a job that has ``processed`` of ``total`` files at ``now`` will be complete.

        Both times are of the database: the clock of this machine may differ.
        """
        if processed == 0:
            return now + timedelta(seconds=total * self._load.seconds_per_image)
        elapsed = max(0.0, (now - started_at).total_seconds())
        return now + timedelta(seconds=elapsed / processed * (total - processed))
