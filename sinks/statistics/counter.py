"""Counts detections events in the database: every event once, in the window of its capture, however late it comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from infra.database.pool import Connection, Database
from infra.database.transaction import transaction
from schemas.events import DetectionsMade
from schemas.topics import DETECTIONS
from sinks.statistics.counts import Counts, Window, count_events
from sinks.statistics.state import counts_from_text, counts_to_text
from sinks.statistics.statements import CHECK_STATE, COUNT_NEW, LOCK_WINDOWS, OPEN_WINDOWS, WRITE_COUNTS


class StatisticsCounter:
    """Is the sink that counts; the publisher reads what it keeps.

    The ids of the events and the counts are written in one transaction, so a batch that is written again changes
    nothing.
    """

    name: str = "statistics"
    event: type[DetectionsMade] = DetectionsMade
    topics: tuple[str, ...] = (DETECTIONS,)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self) -> None:
        """Check that the tables exist. Raises DatabaseUnavailableError, and RefusedError (also before a migration)."""
        async with self._database.acquire() as connection:
            await connection.execute(CHECK_STATE)

    async def write(self, events: Sequence[DetectionsMade]) -> None:
        """Count those of ``events`` that are not counted yet, all or none. Raises the errors of the database."""
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            rows: list[Any] = await connection.fetch(COUNT_NEW, [event.id for event in events])
            new = {row["event_id"] for row in rows}
            found = count_events(event for event in events if event.id in new)
            if found:
                await _add(connection, found)

    async def close(self) -> None:
        """Do nothing: the connections belong to the database."""


async def _add(connection: Connection, found: dict[Window, Counts]) -> None:
    windows = {window.id: window for window in sorted(found)}
    await connection.execute(OPEN_WINDOWS, list(windows), *zip(*windows.values(), strict=True))
    rows: list[Any] = await connection.fetch(LOCK_WINDOWS, list(windows))
    kept: dict[UUID, str | None] = {row["window_id"]: row["counts"] for row in rows}
    together = {id_: _plus(kept[id_], found[window]) for id_, window in windows.items()}
    texts = [counts_to_text(counts) for counts in together.values()]
    await connection.execute(WRITE_COUNTS, list(together), texts, [counts.frames for counts in together.values()])


def _plus(former: str | None, counts: Counts) -> Counts:
    return counts if former is None else counts_from_text(former).plus(counts)
