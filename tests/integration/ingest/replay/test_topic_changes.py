"""Frames of a topic that came later, were deleted, or are of another topic with the same name are noticed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import AsyncMock, patch

import pytest

from infra.broker.port import Reader
from infra.errors import SettingsError
from ingest.replay.errors import SourceError
from ingest.replay.sources.topic import TopicSource
from schemas.topics import FRAMES_LIVE
from standgale.testing.factories import frame_captured
from tests.integration.ingest.replay.runs import Runs, prepared
from tests.integration.ingest.replay.test_topic_and_video import live_records, record

pytestmark = pytest.mark.integration

HOUR = timedelta(hours=1)


@asynccontextmanager
async def topic_of(runs: Runs) -> AsyncIterator[tuple[TopicSource, Reader]]:
    broker = runs.site.broker()
    reader = await broker.reader()
    now = datetime.now(UTC)
    try:
        yield TopicSource(reader, FRAMES_LIVE, now - HOUR, now + HOUR, None, 5.0), reader
    finally:
        await reader.close()
        await broker.close()


async def test_replay_of_a_topic_again_takes_frames_that_came_since(tmp_path: Path) -> None:
    runs = await prepared(tmp_path)
    wanted = {"topic": FRAMES_LIVE, "device": None, "since": datetime.now(UTC) - HOUR}
    await runs.site.publish(live_records(5))
    assert (await runs.whole(None, **wanted)).accepted == 5
    await runs.site.publish(live_records(3, first=50))
    again = await runs.whole(None, **wanted, again=True)
    assert (again.accepted, again.known) == (3, 5)
    assert len(await runs.frames()) == 8


async def test_items_continue_in_the_topic_but_not_in_another_of_its_name(tmp_path: Path) -> None:
    former, other = await prepared(tmp_path / "former"), await prepared(tmp_path / "other")
    await former.site.publish([record(frame_captured(number)) for number in range(4)])
    async with topic_of(former) as (source, _):
        positions = [item.position async for item in source.items(None)]
        assert [item.position async for item in source.items(positions[1])] == positions[2:]
    await other.site.publish([record(frame_captured(number)) for number in range(100, 110)])
    async with topic_of(other) as (source, _):
        with pytest.raises(SourceError, match="made anew, and the rest of it is gone"):
            await anext(source.items(positions[1]))


async def test_deleted_before_names_the_time_of_the_oldest_record(tmp_path: Path) -> None:
    runs = await prepared(tmp_path)
    await runs.site.publish([record(frame_captured(number)) for number in range(4)])
    async with topic_of(runs) as (source, reader):
        assert not await source.deleted_before()
        [(partition, end)] = [(each, end) for each, (_, end) in (await reader.bounds(FRAMES_LIVE)).items() if end]
        with patch.object(reader, "bounds", AsyncMock(return_value={partition: (2, end)})):
            [sentence] = await source.deleted_before()
    assert sentence.startswith(f"retention has deleted the oldest records of {FRAMES_LIVE}: frames before 2")


async def test_replay_of_a_missing_path_names_the_path_before_the_broker(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    with pytest.raises(SettingsError, match="nowhere: no such file or folder"):
        await runs.run(tmp_path / "nowhere")
