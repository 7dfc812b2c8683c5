"""GET /api/v1/statistics: windows of live frames, by filters and pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from console.statistics.bodies import StatisticsBody
from infra.database.pool import Database
from schemas.statistics_events import StatisticsCounted
from sinks.statistics.counts import count_events
from sinks.statistics.report import statistics_event
from sinks.statistics.table import StatisticsTable
from standgale.testing.factories import detections_made
from tests.servers.console import RunningConsole, running_console

pytestmark = pytest.mark.integration

PATH = "/api/v1/statistics"


@pytest.fixture
async def console(tmp_path: Path, database: Database) -> AsyncIterator[RunningConsole]:
    async with database.acquire() as connection:
        await connection.execute("TRUNCATE statistics_windows CASCADE")
    async with running_console(tmp_path, database) as found:
        yield found


async def fill(database: Database) -> list[StatisticsCounted]:
    """Three minutes of two devices, and a frame of a job."""
    events = [
        detections_made(30 * number, device=f"drone-{number % 2}", labels=("car", "boat")[: 1 + number % 2])
        for number in range(6)
    ]
    events.append(detections_made(7, id=uuid4(), job_id=uuid4()))
    windows = [statistics_event(*each) for each in count_events(events).items()]
    await StatisticsTable(database).write(windows)
    return windows


async def windows_of(console: RunningConsole, query: str = "") -> list[dict[str, Any]]:
    response = await console.get(PATH + query)
    assert response.status == 200, response.body
    StatisticsBody.model_validate(response.json)
    return list(response.json["data"]["windows"])


async def test_a_window_has_what_its_event_has(console: RunningConsole) -> None:
    events = {str(event.window_id): event for event in await fill(console.database)}
    windows = await windows_of(console)
    assert len(windows) == 6
    for window in windows:
        event = events[window["window_id"]].model_dump(mode="json", exclude={"id"})
        assert window == event


async def test_frames_of_jobs_are_not_listed(console: RunningConsole) -> None:
    await fill(console.database)
    assert {window["source"] for window in await windows_of(console)} == {"live"}


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("?device_id=drone-1", 3),
        ("?device_id=nobody", 0),
        ("?label=boat", 3),
        ("?label=%27%3B--", 0),
        ("?model_name=small&model_version=1.0", 6),
        ("?model_version=2.0", 0),
        ("?minute_from=2026-05-01T12:01:00Z", 4),
        ("?minute_from=2026-05-01T12:01:00Z&minute_to=2026-05-01T14:02:00%2B02:00", 2),
    ],
)
async def test_filters_choose_windows(console: RunningConsole, query: str, count: int) -> None:
    await fill(console.database)
    assert len(await windows_of(console, query)) == count


async def test_pages_follow_each_other_from_the_newest_to_the_oldest(console: RunningConsole) -> None:
    await fill(console.database)
    pages, before = [], ""
    while True:
        data = (await console.get(f"{PATH}?limit=4{before}")).json["data"]
        pages.append([window["window_id"] for window in data["windows"]])
        if data["next_before"] is None:
            break
        before = f"&before={data['next_before']}"
    assert [len(page) for page in pages] == [4, 2]
    assert list(chain(*pages)) == [window["window_id"] for window in await windows_of(console)]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "before=x", f"before={UUID(int=7)}", "label=%00", "minute_from=17", "devise=drone-1"],
)
async def test_a_wrong_query_is_refused_with_its_field(console: RunningConsole, query: str) -> None:
    response = await console.get(f"{PATH}?{query}")
    assert (response.status, response.code) == (400, "INVALID_CONFIG")
    assert query.partition("=")[0] in response.body.decode()


async def test_statistics_need_a_key(console: RunningConsole) -> None:
    assert (await console.get(PATH, key=None)).status == 401
