"""Writes published windows into tables: of several revisions of a window the largest stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from infra.database.pool import Connection, Database
from infra.database.transaction import transaction
from schemas.statistics_events import StatisticsCounted
from schemas.topics import STATS
from sinks.statistics.statements import CHECK_TABLES, REMOVE_CLASSES, WRITE_CLASSES, WRITE_WINDOWS

_Row = tuple[object, ...]


class StatisticsTable:
    """Is the sink of the topic ``stats``; who has counted the windows makes no difference to it."""

    name: str = "statistics-table"
    event: type[StatisticsCounted] = StatisticsCounted
    topics: tuple[str, ...] = (STATS,)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self) -> None:
        """Check that the tables exist. Raises DatabaseUnavailableError, and RefusedError (also before a migration)."""
        async with self._database.acquire() as connection:
            await connection.execute(CHECK_TABLES)

    async def write(self, events: Sequence[StatisticsCounted]) -> None:
        """Write the largest revision of each window, all or none. Raises the errors of the database."""
        latest: dict[UUID, StatisticsCounted] = {}
        for event in sorted(events, key=lambda each: each.revision):
            latest[event.window_id] = event
        # In one order, so that two writers never wait for each other.
        wanted = [latest[window] for window in sorted(latest)]
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            await _write(connection, wanted)

    async def close(self) -> None:
        """Do nothing: the connections belong to the database."""


async def _write(connection: Connection, events: Sequence[StatisticsCounted]) -> None:
    rows: list[Any] = await connection.fetch(WRITE_WINDOWS, *zip(*map(_window_row, events), strict=True))
    changed = {row["id"] for row in rows}
    classes = [row for event in events if event.window_id in changed for row in _class_rows(event)]
    await connection.execute(REMOVE_CLASSES, list(changed))
    if classes:
        await connection.execute(WRITE_CLASSES, *zip(*classes, strict=True))


def _window_row(event: StatisticsCounted) -> _Row:
    return (
        event.window_id,
        event.device_id,
        event.minute,
        event.model.name,
        event.model.version,
        event.source,
        event.revision,
        event.frames,
        event.frames_with_detections,
        event.frames_per_s,
        event.first_captured_at,
        event.last_captured_at,
        event.last_detected_at,
        event.clock_ahead,
        event.detections,
        event.other_detections,
        event.times.model_dump_json(),
    )


def _class_rows(event: StatisticsCounted) -> list[_Row]:
    return [(event.window_id, each.label, each.detections, each.frames, each.mean_confidence) for each in event.classes]
