"""Writes frames that no detector could process: each is a failed image, and each failure is an inference session.

A frame that was re-driven and detected is a completed image; its failed sessions stay, as what happened before. The id
of a failed session is that of its dead letter, so no repetition writes it twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from uuid import UUID

from infra.database.transaction import transaction
from schemas.event_base import ModelRef
from schemas.events import DeadLetter, FrameCaptured
from schemas.topics import FRAMES_DEAD
from sinks.postgres.dead_letters import original_of
from sinks.postgres.flights import FlightTables, frame_row, open_flights
from sinks.postgres.rows import Row, device_rows
from sinks.postgres.sink import copy_rows, write_devices
from sinks.postgres.statements import FAILED, FAILED_SESSIONS

UNKNOWN_MODEL = ModelRef(name="unknown", version="unknown")
"""Stands in sessions of dead letters that older detectors wrote, which name no model."""
_TIMEOUTS = frozenset({"DEADLINE_EXCEEDED", "ENGINE_HANGS"})
"""The reasons of frames that took, or waited, too long; any other is a failure."""

_Failure = tuple[FrameCaptured, DeadLetter]


class FailedFrames(FlightTables):
    """Is the sink of the dead letters of frames.

    Its name is older than what it writes now: it once wrote the frames of flights only, and names of sinks stay.
    """

    name: str = "flight-failures"
    event: type[DeadLetter] = DeadLetter
    topics: tuple[str, ...] = (FRAMES_DEAD,)
    targets = (FAILED, FAILED_SESSIONS)

    async def write(self, events: Sequence[DeadLetter]) -> None:
        """Make ``events`` durable, all or none; the errors are those of :class:`sinks.postgres.sink.PostgresSink`."""
        failures = [(frame, letter) for letter in events if (frame := original_of(letter, FrameCaptured)) is not None]
        if not failures:
            return
        # Of a frame that failed twice, the last reason counts.
        latest = {frame.frame_id: (frame, letter) for frame, letter in failures}
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            for target in self.targets:
                await connection.execute(target.create_staging)
            devices = await write_devices(connection, device_rows([frame for frame, _ in failures]))
            await open_flights(connection, [frame for frame, _ in failures], devices)
            await copy_rows(connection, FAILED, _image_rows(latest, devices))
            await copy_rows(connection, FAILED_SESSIONS, [_session_row(*failure) for failure in failures])


def _image_rows(latest: Mapping[UUID, _Failure], devices: Mapping[str, UUID]) -> list[Row]:
    return [
        (*frame_row(frame, devices, "failed"), letter.reason, _stored(letter.message))
        for _, (frame, letter) in sorted(latest.items())
    ]


def _session_row(frame: FrameCaptured, letter: DeadLetter) -> Row:
    model = letter.model or frame.model or UNKNOWN_MODEL
    return (
        letter.id,
        frame.frame_id,
        frame.job_id,
        letter.failed_at,
        letter.failed_at,
        model.name,
        model.version,
        frame.options.prompt,
        json.dumps(frame.options.model_dump(mode="json", exclude_none=True)),
        0,
        "timeout" if letter.reason in _TIMEOUTS else "failed",
        _stored(f"{letter.reason}: {letter.message}"),
        frame.captured_at,
        0.0,
    )


def _stored(text: str) -> str:
    """Return ``text`` without null characters, which PostgreSQL cannot store."""
    return text.replace("\0", "")
