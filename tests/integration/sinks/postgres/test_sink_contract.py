"""The PostgreSQL sink keeps the sink contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from infra.consuming.port import Sink
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.errors import ImageCorruptError
from infra.failure.dead_letter_records import dead_letter
from schemas.cloudevents import decode
from schemas.event_base import Event
from schemas.events import DeadLetter, FrameCaptured
from schemas.topics import FRAMES_DEAD
from sinks.postgres.failed_frames import FailedFrames
from sinks.postgres.flights import ArrivedFrames
from sinks.postgres.sink import PostgresSink
from standgale.testing.factories import frame_captured, in_record, out_record
from standgale.testing.sink import SinkContract, SinkHarness
from tests.servers.postgres_roles import Role, role

pytestmark = pytest.mark.integration

PASSWORD = "first-secret"


class PostgresHarness(SinkHarness):
    """A database, and a role of the sink's own that can lose the right to connect."""

    def __init__(self, sink_role: Role, folder: Path) -> None:
        self._role = sink_role
        self._database = Database.open(DatabaseSettings(url=sink_role.dsn(PASSWORD)), folder)

    def make_sink(self) -> Sink[Any]:
        return PostgresSink(self._database)

    async def stored(self) -> Collection[UUID]:
        return [row["id"] for row in await self._role.admin.fetch("SELECT id FROM inference_sessions")]

    def poison(self, number: int) -> Event:
        return self.event(number).model_copy(update={"metadata": {"note": "a\u0000b"}})

    async def take_away(self) -> None:
        await self._role.execute("ALTER ROLE {role} NOLOGIN")
        await self._role.cut()

    async def bring_back(self) -> None:
        await self._role.execute("ALTER ROLE {role} LOGIN")

    async def close(self) -> None:
        await self._database.close()


class ArrivalsHarness(PostgresHarness):
    """The same database for the frames of flights, which are there as soon as they arrive."""

    def make_sink(self) -> Sink[FrameCaptured]:
        return ArrivedFrames(self._database)

    async def stored(self) -> Collection[UUID]:
        return [row["id"] for row in await self._role.admin.fetch("SELECT id FROM images")]

    def event(self, number: int) -> Event:
        return super().event(number).model_copy(update={"flight_id": f"flight-{number % 2}"})


class FailuresHarness(PostgresHarness):
    """The same database for frames that failed: each dead letter is one session."""

    def make_sink(self) -> Sink[DeadLetter]:
        return FailedFrames(self._database)

    def event(self, number: int) -> Event:
        return self._letter(frame_captured(number, device=f"drone-{number % 3}"), number)

    def poison(self, number: int) -> Event:
        return self._letter(frame_captured(number, metadata={"note": "a\u0000b"}), number)

    def _letter(self, frame: FrameCaptured, number: int) -> DeadLetter:
        sent = out_record(frame)
        record = in_record(number, value=sent.value, headers=sent.headers)
        error = ImageCorruptError("the JPEG ends early")
        letter = dead_letter(record, group="detector", error=error, attempts=1, topic=FRAMES_DEAD)
        return decode(letter.headers, letter.value, DeadLetter)


class TestPostgresSink(SinkContract):
    @pytest.fixture
    async def harness(self, migrated_dsn: str, tmp_path: Path) -> AsyncIterator[PostgresHarness]:
        async with role(migrated_dsn, PASSWORD) as sink_role:
            harness = PostgresHarness(sink_role, tmp_path)
            yield harness
            await harness.close()


class TestArrivedFrames(SinkContract):
    """I14: each frame of a flight has one row, also when the sink is killed between write and commit."""

    @pytest.fixture
    async def harness(self, migrated_dsn: str, tmp_path: Path) -> AsyncIterator[ArrivalsHarness]:
        async with role(migrated_dsn, PASSWORD) as sink_role:
            harness = ArrivalsHarness(sink_role, tmp_path)
            yield harness
            await harness.close()


class TestFailedFrames(SinkContract):
    """C-S1-059: each failure of a frame has one session, also when the sink is killed between write and commit."""

    @pytest.fixture
    async def harness(self, migrated_dsn: str, tmp_path: Path) -> AsyncIterator[FailuresHarness]:
        async with role(migrated_dsn, PASSWORD) as sink_role:
            harness = FailuresHarness(sink_role, tmp_path)
            yield harness
            await harness.close()
