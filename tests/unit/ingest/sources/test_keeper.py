"""The keeper shows what it pulls while the database is away, gives signs of life, and names a source that hangs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from infra.process.health import Health, HealthPart
from ingest.sources.keeper import SourceKeeper
from ingest.sources.running import RunningSource
from ingest.sources.settings import SourcesSettings
from ingest.sources.table import Round, SourceTable


@dataclass
class Table:
    """Gives rounds in place of a database; None: no response."""

    rounds: list[Round | None]
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def look(self, *_: object, **__: object) -> Round:
        found = self.rounds.pop(0)
        if not self.rounds:
            self.stop.set()
        if found is None:
            await asyncio.sleep(60)
        return cast("Round", found)

    async def leave(self, *_: object) -> None:
        """Do nothing."""


def part(silence_s: float = 120.0) -> HealthPart:
    return Health(silence_s=silence_s).part("sources")


async def kept(table: Table, health: HealthPart, **running: Any) -> SourceKeeper:
    """Run a keeper to the end of the table's rounds; its lease is a second."""
    parts = SimpleNamespace(sources=SourcesSettings(lease_s=1.0, poll_s=0.1, most=2))
    keeper = SourceKeeper(cast("SourceTable", table), cast("Any", parts))
    keeper.running |= running
    await asyncio.wait_for(keeper.run(table.stop, health), 20)
    return keeper


def source(state: str, *, stopping_s: float = 0.0) -> RunningSource:
    async def wait(_: float) -> None:
        return

    found = SimpleNamespace(
        done=False, report=lambda gives_up: None, status=(state, None), stopping_s=stopping_s, is_stopping=True,
        stop=lambda: None, wait=wait,
    )  # fmt: skip
    return cast("RunningSource", found)


async def test_keeper_lives_while_the_database_gives_no_response() -> None:
    health = part(silence_s=0.3)
    await kept(Table([None]), health, gate=source("waiting"))
    report = health.report()
    assert report.failure is None
    assert "no answer within 1 s" in str(report.reason)
    assert report.note == "1 source (1 waiting)"
    await asyncio.sleep(0.4)
    assert "no sign of life" in str(health.report().failure)


async def test_keeper_counts_sources_beyond_the_most_it_may_have(caplog: pytest.LogCaptureFixture) -> None:
    health = part()
    await kept(Table([Round(frozenset(), (), 2, 7), Round(frozenset(), (), 2, 7)]), health, gate=source("pulling"))
    assert health.report().note == "1 source (1 pulling); 7 more are not pulled, by sources.most"
    assert sum("sources.most" in record.message for record in caplog.records) == 1


async def test_keeper_is_not_live_while_a_source_does_not_end() -> None:
    health = part(silence_s=30.0)
    hanging = source("pulling", stopping_s=31.0)
    keeper = await kept(Table([Round(frozenset(), (), 0)]), health, gate=hanging)
    assert health.report().failure == "source gate has not ended for 31 s"
    keeper.running["gate"] = source("pulling")
    keeper._show_hanging(health)
    assert health.report().failure is None
