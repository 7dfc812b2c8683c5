"""Writes the frames of flights as they arrive, beside the detections and the failures of the PostgreSQL sinks.

Every frame of a flight is one row of ``images``, whatever is read first: its frame event makes it pending, its
detections make it completed, a dead letter makes it failed unless it is completed. So no order of the three topics, and
no repetition, counts a frame twice, and a frame that is re-driven and detected is detected.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from uuid import UUID

from infra.database.pool import Connection, Database
from infra.database.transaction import transaction
from schemas.events import FrameCaptured
from schemas.topics import FRAME_TOPICS
from sinks.postgres.rows import Row, device_rows
from sinks.postgres.sink import copy_rows, write_devices
from sinks.postgres.statements import ARRIVED, OPEN_FLIGHTS, TargetTable


class FlightTables:
    """Opens and closes a sink that writes frames into tables; what is written differs."""

    targets: tuple[TargetTable, ...]

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self) -> None:
        """Check that the tables exist. Raises DatabaseUnavailableError, and RefusedError (also before a migration)."""
        async with self._database.acquire() as connection:
            for target in self.targets:
                await connection.execute(target.check)
                await connection.execute(target.create_staging)

    async def close(self) -> None:
        """Do nothing: the connections belong to the database, and the process that opened it closes it."""


class ArrivedFrames(FlightTables):
    """Writes the frames that name a flight as soon as they are in their topic; other frames cost it nothing."""

    name: str = "flights"
    event: type[FrameCaptured] = FrameCaptured
    topics: tuple[str, ...] = FRAME_TOPICS
    targets = (ARRIVED,)

    async def write(self, events: Sequence[FrameCaptured]) -> None:
        """Make ``events`` durable, all or none; the errors are those of :class:`sinks.postgres.sink.PostgresSink`."""
        frames = {event.frame_id: event for event in events if event.flight_id is not None}
        if not frames:
            return
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            await connection.execute(ARRIVED.create_staging)
            devices = await write_devices(connection, device_rows(list(frames.values())))
            await open_flights(connection, list(frames.values()), devices)
            rows = [frame_row(frame, devices, "pending") for _, frame in sorted(frames.items())]
            await copy_rows(connection, ARRIVED, rows)


async def open_flights(connection: Connection, frames: Sequence[FrameCaptured], devices: Mapping[str, UUID]) -> None:
    """Write the flights that ``frames`` name; ``devices`` maps device ids to row ids."""
    opened: dict[tuple[UUID, str], FrameCaptured] = {}
    for frame in frames:
        if frame.flight_id is not None:
            opened.setdefault((devices[frame.device_id], frame.flight_id), frame)
    flights = sorted(opened)
    if flights:
        await connection.execute(
            OPEN_FLIGHTS,
            [device for device, _ in flights],
            [flight for _, flight in flights],
            [opened[flight].received_at for flight in flights],
        )


def frame_row(frame: FrameCaptured, devices: Mapping[str, UUID], status: str) -> Row:
    """Return the row of a frame that is not detected, in the order of the columns of ARRIVED."""
    return (
        frame.frame_id,
        devices[frame.device_id],
        frame.job_id,
        frame.image.uri,
        frame.image.sha256,
        frame.original_filename,
        frame.captured_at,
        frame.received_at,
        frame.image.width,
        frame.image.height,
        frame.image.media_type.removeprefix("image/"),
        frame.image.size_bytes,
        status,
        False,
        False,
        None if frame.camera is None else frame.camera.model_dump_json(exclude_none=True),
        json.dumps(frame.metadata) if frame.metadata else None,
        frame.flight_id,
    )
