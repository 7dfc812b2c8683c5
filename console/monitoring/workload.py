"""Reads how much work of all clients waits, how fast it is done, and how much waited in the last hour."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from infra.database.pool import Connection

_REFRESH_S = 5.0
_MINUTES = 60
_SPEED_MINUTES = 5
# A job leaves the queue with its first file, or when it is cancelled before.
_WAITING = """
SELECT now() AS read_at, (SELECT count(*) FROM jobs WHERE finished_at IS NULL AND status = 'queued') AS jobs,
    (SELECT count(*) FROM job_files WHERE status IN ('queued', 'published')) AS files
"""
_INFERENCE_MS = """
SELECT avg(s.duration_ms) FROM (
    SELECT session_id FROM job_files
    WHERE finished_at > now() - interval '1 hour' AND status = 'completed' ORDER BY finished_at DESC LIMIT 100
) AS f JOIN inference_sessions AS s ON s.id = f.session_id
"""
_COMPLETED = """
SELECT count(*) FROM job_files WHERE finished_at > now() - make_interval(mins => $1) AND status = 'completed'
"""
# Minutes ago; a clock that was set back makes no minute before this one. A job that came, or left the queue, in the
# last hour has not ended, or has ended in the last hour: there are indexes for both.
_MOVED = """
SELECT greatest(0, floor(extract(epoch FROM now() - moved.at) / 60))::int AS minute, sum(moved.change)::int AS change
FROM jobs,
    LATERAL (VALUES (created_at, 1), (coalesce(started_at, finished_at), -1)) AS moved (at, change)
WHERE (finished_at IS NULL OR finished_at > now() - interval '1 hour') AND moved.at > now() - interval '1 hour'
GROUP BY minute
"""


@dataclass(frozen=True, slots=True)
class Workload:
    """Describes the work of all clients at one time."""

    queue_length: int
    """Jobs of which no file is with a detector yet"""
    waiting_files: int
    """Files without an end"""
    average_inference_seconds: float | None
    completed_per_minute: float
    history: tuple[tuple[datetime, int], ...]
    """How many jobs were in the queue in the last hour, by minutes, the newest last"""


class WorkloadReader:
    """Reads the workload, and keeps it for some seconds, so that many dashboards cost no more than one."""

    def __init__(self) -> None:
        self._read: Workload | None = None
        self._read_at = 0.0

    async def read(self, connection: Connection) -> Workload:
        """Return the workload of at most some seconds ago."""
        if self._read is None or time.monotonic() - self._read_at >= _REFRESH_S:
            # Before the queries, so that requests at the same time do not all read it.
            self._read_at = time.monotonic()
            self._read = await read_workload(connection)
        return self._read


async def read_workload(connection: Connection) -> Workload:
    """Read the workload now."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        waiting: Any = await connection.fetchrow(_WAITING)
        duration_ms = await connection.fetchval(_INFERENCE_MS)
        completed = await connection.fetchval(_COMPLETED, _SPEED_MINUTES)
        moved: list[Any] = await connection.fetch(_MOVED)
    return Workload(
        queue_length=waiting["jobs"],
        waiting_files=waiting["files"],
        average_inference_seconds=None if duration_ms is None else round(float(duration_ms) / 1_000, 4),
        completed_per_minute=round(completed / _SPEED_MINUTES, 2),
        history=_history(waiting["read_at"], waiting["jobs"], {row["minute"]: row["change"] for row in moved}),
    )


def _history(now: datetime, queued: int, changes: Mapping[int, int]) -> tuple[tuple[datetime, int], ...]:
    """Return how many jobs were in the queue: before each minute, those of its end without what changed in it."""
    found = [(now, queued)]
    for minute in range(_MINUTES):
        queued = max(0, queued - changes.get(minute, 0))
        found.append((now - timedelta(minutes=minute + 1), queued))
    return tuple(reversed(found))
