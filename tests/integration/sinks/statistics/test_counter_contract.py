"""The sinks of the statistics keep the sink contract: every event is counted once, and every window written once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from infra.consuming.port import Sink
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from sinks.statistics.counter import StatisticsCounter
from standgale.testing.sink import SinkContract, SinkHarness
from tests.servers.postgres_roles import Role, role

pytestmark = pytest.mark.integration

PASSWORD = "first-secret"


class CounterHarness(SinkHarness):
    """A database, and a role of the sink's own that can lose the right to connect."""

    def __init__(self, sink_role: Role, folder: Path) -> None:
        self._role = sink_role
        self._database = Database.open(DatabaseSettings(url=sink_role.dsn(PASSWORD)), folder)

    def make_sink(self) -> Sink[Any]:
        return StatisticsCounter(self._database)

    async def stored(self) -> Collection[UUID]:
        counted = [row["event_id"] for row in await self._role.admin.fetch("SELECT event_id FROM statistics_counted")]
        frames = await self._role.admin.fetchval("SELECT sum((counts ->> 'frames')::int) FROM statistics_state")
        assert (frames or 0) == len(counted), "a window has not counted an event that is noted as counted"
        return counted

    async def take_away(self) -> None:
        await self._role.execute("ALTER ROLE {role} NOLOGIN")
        await self._role.cut()

    async def bring_back(self) -> None:
        await self._role.execute("ALTER ROLE {role} LOGIN")

    async def close(self) -> None:
        await self._database.close()


class TestStatisticsCounter(SinkContract):
    @pytest.fixture
    async def harness(self, migrated_dsn: str, tmp_path: Path) -> AsyncIterator[CounterHarness]:
        async with role(migrated_dsn, PASSWORD) as sink_role:
            harness = CounterHarness(sink_role, tmp_path)
            yield harness
            await harness.close()
