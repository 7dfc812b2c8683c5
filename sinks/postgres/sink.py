"""Writes detections events to PostgreSQL with COPY; rows that exist already stay as they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from infra.database.pool import Connection, Database
from infra.database.transaction import transaction
from schemas.events import DetectionsMade
from schemas.topics import DETECTIONS as DETECTIONS_TOPIC
from sinks.postgres.job_counts import count_results
from sinks.postgres.jobs import CHECK_JOBS, note_ended
from sinks.postgres.media import CHECK_MEDIA, note_media_results
from sinks.postgres.rows import DeviceRow, Row, detection_rows, device_rows, image_rows, session_rows
from sinks.postgres.statements import (
    CHECK_TABLES,
    CREATE_STAGING,
    DETECTIONS,
    DEVICE_IDS,
    IMAGES,
    SESSIONS,
    UPSERT_DEVICES,
    TargetTable,
)


class PostgresSink:
    """Writes devices, images, inference sessions and detections, and counts files of jobs: a transaction per batch.

    Every row's id is computed from its content, so a batch that is written again finds its rows and changes nothing.
    """

    name: str = "postgres"
    event: type[DetectionsMade] = DetectionsMade
    topics: tuple[str, ...] = (DETECTIONS_TOPIC,)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self) -> None:
        """Check that the tables exist.

        Raises DatabaseUnavailableError, and RefusedError (also before the migrations ran).
        """
        async with self._database.acquire() as connection:
            # First, or the staging tables would never get the columns that a table does not have yet.
            await connection.execute(CHECK_TABLES)
            await connection.execute(CREATE_STAGING)
            await connection.execute(CHECK_JOBS)
            await connection.execute(CHECK_MEDIA)

    async def write(self, events: Sequence[DetectionsMade]) -> None:
        """Make ``events`` durable, all or none.

        Raises DatabaseUnavailableError and RefusedError (write them again), RowRefusedError naming the field that the
        database cannot store, and WriteRefusedError (a constraint or trigger refuses one of them, or all).
        """
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            # It does nothing where they exist; a connection that is new, or was reset by a pooler, has none.
            await connection.execute(CREATE_STAGING)
            ids = await write_devices(connection, device_rows(events))
            await copy_rows(connection, IMAGES, image_rows(events, ids))
            await copy_rows(connection, SESSIONS, session_rows(events))
            await copy_rows(connection, DETECTIONS, detection_rows(events))
            # Last, so that the rows of jobs are locked for a short time.
            ended = await count_results(connection, events)
            await note_media_results(connection, events)
        note_ended(ended)

    async def close(self) -> None:
        """Do nothing: the connections belong to the database, and the process that opened it closes it."""


async def write_devices(connection: Connection, devices: Sequence[DeviceRow]) -> dict[str, UUID]:
    """Write ``devices``, and return the id of each one's row by its device id."""
    names = [device.device_id for device in devices]
    await connection.execute(
        UPSERT_DEVICES,
        [device.id for device in devices],
        names,
        [device.last_seen for device in devices],
        [device.location for device in devices],
    )
    return {row["device_id"]: row["id"] for row in await connection.fetch(DEVICE_IDS, names)}


async def copy_rows(connection: Connection, target: TargetTable, rows: Iterable[Row]) -> None:
    """Write ``rows`` with COPY and merge them into the table; the staging table must exist."""
    await connection.copy_records_to_table(target.staging, records=rows, columns=target.columns)
    await connection.execute(target.merge)
