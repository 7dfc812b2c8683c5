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
_WAITING = "SELECT now() AS read_at, count(*) AS files FROM job_files WHERE status IN ('queued', 'published')"
_INFERENCE_MS = """
SELECT avg(s.duration_ms) FROM (
    SELECT session_id FROM job_files
    WHERE finished_at > now() - interval '1 hour' AND status = 'completed' ORDER BY finished_at DESC LIMIT 100
) AS f JOIN inference_sessions AS s ON s.id = f.session_id
"""
# Minutes ago; a clock that was set back makes no minute before this one.
_ENDED = """
SELECT greatest(0, floor(extract(epoch FROM now() - finished_at) / 60))::int AS minute, count(*) AS files,
    count(*) FILTER (WHERE status = 'completed') AS completed
FROM job_files WHERE finished_at > now() - interval '1 hour' GROUP BY minute
"""
# A job of the last hour has not ended, or has ended in the last hour: there are indexes for both.
_MADE = """
SELECT greatest(0, floor(extract(epoch FROM now() - created_at) / 60))::int AS minute, sum(total_images) AS files
FROM jobs
WHERE created_at > now() - interval '1 hour' AND (finished_at IS NULL OR finished_at > now() - interval '1 hour')
GROUP BY minute
"""


@dataclass(frozen=True, slots=True)
class Workload:
    """Describes the work of all clients at one time."""

    queue_length: int
    """Files without an end"""
    average_inference_seconds: float | None
    completed_per_minute: float
    history: tuple[tuple[datetime, int], ...]
    """How many files waited in the last hour, by minutes, the newest last"""


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
        ended: list[Any] = await connection.fetch(_ENDED)
        made: list[Any] = await connection.fetch(_MADE)
    ended_by_minute = {row["minute"]: row["files"] for row in ended}
    made_by_minute = {row["minute"]: row["files"] for row in made}
    recent = sum(row["completed"] for row in ended if row["minute"] < _SPEED_MINUTES)
    return Workload(
        queue_length=waiting["files"],
        average_inference_seconds=None if duration_ms is None else round(float(duration_ms) / 1_000, 4),
        completed_per_minute=round(recent / _SPEED_MINUTES, 2),
        history=_history(waiting["read_at"], waiting["files"], made_by_minute, ended_by_minute),
    )


def _history(
    now: datetime, waiting: int, made: Mapping[int, int], ended: Mapping[int, int]
) -> tuple[tuple[datetime, int], ...]:
    """Return how many files waited: before each minute, those of its end without what came, and with what ended."""
    found = [(now, waiting)]
    for minute in range(_MINUTES):
        waiting = max(0, waiting - int(made.get(minute, 0)) + int(ended.get(minute, 0)))
        found.append((now - timedelta(minutes=minute + 1), waiting))
    return tuple(reversed(found))
