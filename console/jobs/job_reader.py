"""Reads the jobs that many requests ask for at the same time in one query, so that they need one connection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from console.http.connection import request_connection
from console.ids import is_id
from console.jobs.status import SELECT, JobRow, job_not_found, job_row
from console.parts import ConsoleParts
from infra.errors import DatabaseUnavailableError

_MOST = 500
_JOBS = f"""
{SELECT} JOIN unnest($1::varchar[], $2::varchar[]) AS w (job_id, client_id)
    ON w.job_id = j.job_id AND w.client_id = j.client_id
"""


@dataclass(frozen=True, slots=True)
class _Asked:
    job_id: str
    client_id: str
    found: asyncio.Future[JobRow | None]


class JobReader:
    """Reads one batch of jobs at a time; what is asked for meanwhile is in the next one, so no row is too old."""

    def __init__(self, parts: ConsoleParts) -> None:
        self._parts = parts
        self._asked: list[_Asked] = []
        self._reading: asyncio.Task[None] | None = None

    async def find(self, client_id: str, job_id: str) -> JobRow:
        """Return the job ``job_id`` of a client. Raises JobNotFoundError, and the errors of the database."""
        if not is_id(job_id, "job"):
            raise job_not_found(job_id)
        asked = _Asked(job_id, client_id, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_all(), name="jobs-read")
        timeout_s = self._parts.settings.database_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                row = await asked.found
        except TimeoutError as error:
            raise DatabaseUnavailableError(
                f"the database did not answer within {timeout_s:g} s (console.database_timeout_s)"
            ) from error
        if row is None:
            raise job_not_found(job_id)
        return row

    async def _read_all(self) -> None:
        """Read until nobody waits; an error of one batch is that of each of its requests."""
        batch: list[_Asked] = []
        try:
            while self._asked:
                batch, self._asked = self._asked[:_MOST], self._asked[_MOST:]
                try:
                    await self._read(batch)
                except Exception as error:  # noqa: BLE001 (each request raises it)
                    for asked in batch:
                        if not asked.found.done():
                            asked.found.set_exception(error)
        finally:
            self._reading = None
            for asked in (*batch, *self._asked):
                asked.found.cancel()

    async def _read(self, batch: Sequence[_Asked]) -> None:
        pairs = sorted({(asked.job_id, asked.client_id) for asked in batch if not asked.found.done()})
        columns = [job_id for job_id, _ in pairs], [client_id for _, client_id in pairs]
        async with request_connection(self._parts) as connection:
            rows: list[Any] = await connection.fetch(_JOBS, *columns)
        found = {(row["job_id"], row["client_id"]): row for row in rows}
        for asked in batch:
            if not asked.found.done():
                row = found.get((asked.job_id, asked.client_id))
                asked.found.set_result(None if row is None else job_row(row))
