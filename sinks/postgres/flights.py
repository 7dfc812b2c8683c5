"""Writes the frames of flights as they arrive, and those that failed, beside the detections of the PostgreSQL sink.

Every frame of a flight is one row of ``images``, whatever is read first: its frame event makes it pending, its
detections make it completed, a dead letter makes it failed unless it is completed. So no order of the three topics, and
no repetition, counts a frame twice, and a frame that is re-driven and detected is detected.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from uuid import UUID

from infra.database.pool import Connection, Database
from infra.database.transaction import transaction
from schemas.events import DeadLetter, FrameCaptured
from schemas.topics import FRAME_TOPICS, FRAMES_DEAD
from sinks.postgres.dead_letters import original_of
from sinks.postgres.rows import Row, device_rows
from sinks.postgres.sink import copy_rows, write_devices
from sinks.postgres.statements import ARRIVED, FAILED, OPEN_FLIGHTS


class _FlightWriter:
    """Opens and closes; what is written differs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self) -> None:
        """Check that the tables exist. Raises DatabaseUnavailableError, and RefusedError (also before a migration)."""
        async with self._database.acquire() as connection:
            for statement in (ARRIVED.check, FAILED.check, ARRIVED.create_staging):
                await connection.execute(statement)

    async def close(self) -> None:
        """Do nothing: the connections belong to the database, and the process that opened it closes it."""


class ArrivedFrames(_FlightWriter):
    """Writes the frames that name a flight as soon as they are in their topic; other frames cost it nothing."""

    name: str = "flights"
    event: type[FrameCaptured] = FrameCaptured
    topics: tuple[str, ...] = FRAME_TOPICS

    async def write(self, events: Sequence[FrameCaptured]) -> None:
        """Make ``events`` durable, all or none; the errors are those of :class:`sinks.postgres.sink.PostgresSink`."""
        frames = {event.frame_id: event for event in events if event.flight_id is not None}
        if not frames:
            return
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            await connection.execute(ARRIVED.create_staging)
            devices = await _open_flights(connection, list(frames.values()))
            rows = [_row(frame, devices, "pending") for _, frame in sorted(frames.items())]
            await copy_rows(connection, ARRIVED, rows)


class FailedFrames(_FlightWriter):
    """Writes the dead letters of frames that name a flight."""

    name: str = "flight-failures"
    event: type[DeadLetter] = DeadLetter
    topics: tuple[str, ...] = (FRAMES_DEAD,)

    async def write(self, events: Sequence[DeadLetter]) -> None:
        """Make ``events`` durable, all or none; the errors are those of :class:`sinks.postgres.sink.PostgresSink`."""
        failed: dict[UUID, tuple[FrameCaptured, DeadLetter]] = {}
        for letter in events:
            frame = original_of(letter, FrameCaptured)
            if frame is not None and frame.flight_id is not None:
                failed[frame.frame_id] = frame, letter
        if not failed:
            return
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            await connection.execute(FAILED.create_staging)
            devices = await _open_flights(connection, [frame for frame, _ in failed.values()])
            rows = [
                (*_row(frame, devices, "failed"), letter.reason, letter.message.replace("\0", ""))
                for _, (frame, letter) in sorted(failed.items())
            ]
            await copy_rows(connection, FAILED, rows)


async def _open_flights(connection: Connection, frames: Sequence[FrameCaptured]) -> dict[str, UUID]:
    """Write devices and flights of ``frames``, and return the row ids of the devices."""
    devices = await write_devices(connection, device_rows(frames))
    opened: dict[tuple[UUID, str], FrameCaptured] = {}
    for frame in frames:
        assert frame.flight_id is not None
        opened.setdefault((devices[frame.device_id], frame.flight_id), frame)
    flights = sorted(opened)
    await connection.execute(
        OPEN_FLIGHTS,
        [device for device, _ in flights],
        [flight for _, flight in flights],
        [opened[flight].received_at for flight in flights],
    )
    return devices


def _row(frame: FrameCaptured, devices: dict[str, UUID], status: str) -> Row:
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
