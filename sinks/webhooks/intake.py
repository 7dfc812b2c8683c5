"""Turns events into deliveries: the ends of jobs, and detections that fit the conditions of web-hooks."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import UUID

from infra.database.pool import Database
from infra.database.transaction import transaction
from schemas.events import DetectionsMade
from schemas.job_events import JobFinished
from schemas.timestamps import utc_now
from schemas.topics import DETECTIONS, JOBS
from sinks.webhooks.conditions import Conditions
from sinks.webhooks.payloads import delivery_id, detections_payload, job_payload
from sinks.webhooks.records import CHECK, NewDelivery, add_deliveries
from sinks.webhooks.settings import WebhookSettings

_AT_ONCE = 1_000
_MOST_KEPT = 100
# Of a job: the web-hook that it names, and those of its client for all of its jobs.
_OF_JOBS = """
SELECT j.id AS job, w.id AS webhook FROM unnest($1::uuid[]) AS wanted (id)
JOIN jobs j ON j.id = wanted.id
JOIN webhooks w ON w.client_id = j.client_id AND w.disabled_at IS NULL
    AND ('job.finished' = ANY(w.events) OR w.id = j.webhook_id)
"""
_FOR_DETECTIONS = """
SELECT id, conditions FROM webhooks WHERE 'detections.found' = ANY(events) AND disabled_at IS NULL
"""


class JobWebhooks:
    """Is the sink of the ends of jobs."""

    name: str = "webhooks-jobs"
    event: type[JobFinished] = JobFinished
    topics: tuple[str, ...] = (JOBS,)

    def __init__(self, database: Database, settings: WebhookSettings) -> None:
        self._database = database
        self._settings = settings

    async def open(self) -> None:
        """Check that the tables exist. Raises DatabaseUnavailableError, and RefusedError (also before a migration)."""
        async with self._database.acquire() as connection:
            await connection.execute(CHECK)

    async def write(self, events: Sequence[JobFinished]) -> None:
        """Keep what is to be delivered about ``events``, once for each event and web-hook."""
        by_job = {event.job_uuid: event for event in events}
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            rows = await connection.fetch(_OF_JOBS, list(by_job))
            new = [
                NewDelivery(delivery_id(row["webhook"], event.id), row["webhook"], "job.finished", job_payload(event))
                for row in rows
                for event in (by_job[row["job"]],)
            ]
            if new:
                await add_deliveries(connection, new, self._settings.max_waiting)

    async def close(self) -> None:
        """Do nothing: the connections belong to the database."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Holds web-hooks with the same conditions."""

    conditions: Conditions
    webhooks: Sequence[UUID]


class DetectionWebhooks:
    """Is the sink of detections; those of jobs are their clients' alone and call nobody here.

    The web-hooks are read again every ``webhooks.refresh_s``: a new one begins within that time.
    """

    name: str = "webhooks-detections"
    event: type[DetectionsMade] = DetectionsMade
    topics: tuple[str, ...] = (DETECTIONS,)

    def __init__(self, database: Database, settings: WebhookSettings) -> None:
        self._database = database
        self._settings = settings
        self._wanted: Mapping[str, _Wanted] = {}
        self._read_at: float | None = None

    async def open(self) -> None:
        """Check that the tables exist. Raises DatabaseUnavailableError, and RefusedError (also before a migration)."""
        async with self._database.acquire() as connection:
            await connection.execute(CHECK)

    async def write(self, events: Sequence[DetectionsMade]) -> None:
        """Keep what is to be delivered about ``events``, once for each event and web-hook."""
        await self._refresh()
        if not self._wanted:
            return
        new = self._deliveries(events)
        # Not all of a batch at once, because of the memory; and not on the event loop, where others wait.
        while some := await asyncio.to_thread(_next_of, new):
            async with self._database.acquire(writing=True) as connection:
                await add_deliveries(connection, some, self._settings.max_waiting)

    def _deliveries(self, events: Sequence[DetectionsMade]) -> Iterator[NewDelivery]:
        now, wanted = utc_now(), self._wanted.values()
        for event in events:
            if event.job_id is not None or not event.detections:
                continue
            payloads: dict[tuple[int, ...], bytes] = {}
            for each in wanted:
                found = each.conditions.matching(event, now)
                if not found:
                    continue
                # Different conditions find mostly the same.
                which = tuple(map(id, found))
                payload = payloads.get(which)
                if payload is None:
                    payload = detections_payload(event, found)
                    if len(payloads) < _MOST_KEPT:
                        payloads[which] = payload
                for webhook in each.webhooks:
                    yield NewDelivery(delivery_id(webhook, event.id), webhook, "detections.found", payload)

    async def close(self) -> None:
        """Do nothing: the connections belong to the database."""

    async def _refresh(self) -> None:
        now = time.monotonic()
        if self._read_at is not None and now - self._read_at < self._settings.refresh_s:
            return
        async with self._database.acquire() as connection:
            rows = await connection.fetch(_FOR_DETECTIONS)
        self._wanted = await asyncio.to_thread(_grouped, rows, self._wanted)
        self._read_at = now


def _grouped(rows: Sequence[Any], known: Mapping[str, _Wanted]) -> Mapping[str, _Wanted]:
    """Return the web-hooks in ``rows`` by the text of their conditions, which is read where it is not ``known``."""
    webhooks: dict[str, list[UUID]] = {}
    for row in rows:
        webhooks.setdefault(row["conditions"], []).append(row["id"])
    return {
        text: _Wanted(
            known[text].conditions if text in known else Conditions.model_validate(json.loads(text)), webhooks[text]
        )
        for text in webhooks
    }


def _next_of(new: Iterator[NewDelivery]) -> list[NewDelivery]:
    return list(islice(new, _AT_ONCE))
