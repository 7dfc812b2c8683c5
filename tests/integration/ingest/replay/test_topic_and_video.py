"""A time range of a topic is published again with the same ids; a video becomes frames with their places."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest

from infra.broker.event_records import event_record
from infra.broker.port import OutRecord
from ingest.replay.errors import RefusedItemError, SourceError
from ingest.replay.sources.topic import TopicSource
from schemas.events import FrameCaptured
from schemas.topics import FRAMES_LIVE
from standgale.replays import AlreadyDone
from standgale.testing.factories import frame_captured
from tests.integration.ingest.replay.runs import InterruptedReplayError, interrupted_after, prepared

pytestmark = pytest.mark.integration


def live_frames(count: int, first: int = 0) -> list[FrameCaptured]:
    return [frame_captured(number, device=f"drone-{number % 5}") for number in range(first, first + count)]


def live_records(count: int, first: int = 0) -> list[OutRecord]:
    return [record(event) for event in live_frames(count, first)]


def record(event: FrameCaptured) -> OutRecord:
    about: dict[str, Any] = {"id": event.frame_id, "source": "/test", "subject": str(event.frame_id)}
    return event_record(FRAMES_LIVE, event, **about, time=event.received_at, key=event.device_id)


def now() -> datetime:
    return datetime.now(UTC)


async def test_replay_of_a_topic_publishes_the_same_events_again(tmp_path: Path) -> None:
    runs = await prepared(tmp_path, replay={"batch_frames": 4})
    await runs.site.publish(live_records(20))
    broken = OutRecord(FRAMES_LIVE, "drone-1", b"none", ())
    await runs.site.publish([broken])
    since = now() - timedelta(hours=1)
    result = await runs.whole(None, topic=FRAMES_LIVE, device=None, since=since)
    assert (result.accepted, result.refused_by_code) == (20, {"INVALID_EVENT": 1})
    live = {event.frame_id: event for event in live_frames(20)}
    replayed = await runs.frames()
    assert {event.frame_id: event for event in replayed} == live
    assert len(replayed) == 20
    assert not (runs.site.data / "frames").exists() or not list((runs.site.data / "frames").rglob("*.jpg"))
    assert isinstance(await runs.run(None, topic=FRAMES_LIVE, device=None, since=since), AlreadyDone)


async def test_replay_of_a_topic_takes_device_and_time_range(tmp_path: Path) -> None:
    runs = await prepared(tmp_path)
    begin = now()
    await runs.site.publish(live_records(10))
    end = now()
    after = {"topic": FRAMES_LIVE, "device": "drone-3"}
    assert (await runs.whole(None, **after, since=begin - timedelta(seconds=9))).accepted == 2
    none = await runs.whole(None, **after, since=end + timedelta(seconds=1), until=end + timedelta(seconds=2))
    assert (none.accepted, none.finished) == (0, True)
    assert (await runs.whole(None, **after, since=begin - timedelta(9), until=begin - timedelta(1))).accepted == 0


async def test_replay_of_a_topic_ends_where_it_began_the_first_time(tmp_path: Path) -> None:
    runs = await prepared(tmp_path, replay={"batch_frames": 2, "in_progress": 2})
    await runs.site.publish(live_records(20))
    wanted = {"topic": FRAMES_LIVE, "device": None, "since": now() - timedelta(hours=1)}
    with interrupted_after(3), pytest.raises(InterruptedReplayError):
        await runs.run(None, **wanted)
    await runs.site.publish(live_records(10, first=100))
    assert (await runs.whole(None, **wanted)).accepted == 20
    assert len(await runs.frames()) == len({event.frame_id for event in await runs.frames()}) == 20


async def test_items_of_a_topic_name_records_deleted_after_an_interruption(tmp_path: Path) -> None:
    runs = await prepared(tmp_path)
    await runs.site.publish([record(frame_captured(number)) for number in range(10)])
    broker = runs.site.broker()
    reader = await broker.reader()
    [(partition, end)] = [(each, end) for each, (_, end) in (await reader.bounds(FRAMES_LIVE)).items() if end]
    source = TopicSource(reader, FRAMES_LIVE, now() - timedelta(hours=1), now(), None, 5.0)
    assert [item.name async for item in source.items(f"{partition}:8")] == [f"{FRAMES_LIVE} {partition}:9"]
    with patch.object(reader, "bounds", AsyncMock(return_value={partition: (6, end)})):
        items = [item async for item in source.items(f"{partition}:2")]
    assert [item.position.split(":")[1] for item in items] == [str(offset) for offset in range(5, 10)]
    with pytest.raises(RefusedItemError, match="retention deleted 3 records"):
        await items[0].load()
    with pytest.raises(SourceError, match="up to offset 10: the topic was emptied or made anew"):
        await anext(source.items(f"{partition}:10"))
    await reader.close()
    await broker.close()


async def test_replay_of_a_video_gives_frames_with_their_places(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    import numpy as np

    path = tmp_path / "flight.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 256
        stream.pix_fmt = "yuv420p"
        for number in range(20):
            image = np.full((256, 256, 3), number * 10, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode(None))
    runs = await prepared(tmp_path)
    start = datetime(2026, 5, 1, 12, tzinfo=UTC)
    result = await runs.whole(path, every=5, start=start)
    assert (result.accepted, result.refused) == (4, 0)
    events = await runs.frames()
    assert [event.video.presentation_time_s for event in events] == [0.0, 0.5, 1.0, 1.5]
    assert [event.captured_at for event in events] == [start + timedelta(seconds=number / 2) for number in range(4)]
    assert {event.video.source for event in events} == {"flight.mp4"}
    whole = path.read_bytes()
    data = bytearray(whole)
    place = data.index(b"mdat") + len(whole) // 3
    data[place : place + 100] = bytes(100)
    path.write_bytes(data)
    damaged = await runs.whole(path, start=start, restart=True)
    assert damaged.refused_by_code == {"FRAMES_LEFT_OUT": 1}
    assert "the video is damaged, and this was left out: " in damaged.refused_first[0]["reason"]
    path.write_bytes(whole)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceError, match=r"flight\.mp4"):
        await runs.run(path, every=5, start=start, restart=True)
