"""`standgale stats` shows counted windows, as a table or as JSON."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from sinks.statistics.counts import count_events
from sinks.statistics.report import statistics_event
from sinks.statistics.table import StatisticsTable
from standgale.cli import app
from standgale.testing.factories import detections_made

pytestmark = pytest.mark.integration


async def _fill(dsn: str, folder: Path) -> None:
    events = [detections_made(30 * number, labels=("car", "boat")[: 1 + number % 2]) for number in range(4)]
    events.append(detections_made(7, id=uuid4(), job_id=uuid4()))
    database = Database.open(DatabaseSettings(url=dsn), folder)
    await StatisticsTable(database).write([statistics_event(*each) for each in count_events(events).items()])
    await database.close()


@pytest.fixture
def filled(migrated_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDGALE_DATABASE__URL", migrated_dsn)
    monkeypatch.setenv("COLUMNS", "80")
    asyncio.run(_fill(migrated_dsn, tmp_path))


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["stats", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.usefixtures("filled")
def test_stats_shows_counted_windows() -> None:
    windows = json.loads(run("--json"))
    assert windows[0]["minute"] > windows[1]["minute"]
    assert sorted((window["minute"][11:16], window["source"], window["frames"]) for window in windows) == [
        ("12:00", "jobs", 1),
        ("12:00", "live", 2),
        ("12:01", "live", 2),
    ]
    assert len(json.loads(run("--json", "--source", "jobs"))) == 1
    assert len(json.loads(run("--json", "--limit", "1", "--to", "2026-05-01T12:01:00"))) == 1
    shown = run("--source", "live")
    # In 80 characters, no number or time is cut.
    for text in ("2 car, 1 boat", "2026-05-01", "12:01", " ms "):
        assert text in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "nothing is counted yet" in run("--device", "nobody")
