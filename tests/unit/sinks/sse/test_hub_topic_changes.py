"""The stream continues when the broker is unavailable, and when the topic changes."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from infra.failure.settings import RetrySettings
from infra.process.health import Health
from sinks.sse import history, topic_follower
from sinks.sse.hub import DetectionHub
from tests.harnesses.sse_topic import (
    PARTITIONS,
    Page,
    Topic,
    broker_unavailable,
    connected,
    running,
    settings,
    started,
    until,
)


async def test_streams_outlive_the_broker() -> None:
    topic = Topic()
    page = Page()
    health = Health()
    hub = DetectionHub(topic, settings(heartbeat_s=0.1), RetrySettings(first_delay_s=0.01, max_delay_s=0.02))
    stop = asyncio.Event()
    task = asyncio.create_task(hub.run(stop, health.part("sse")))
    topic.unavailable = True
    async with connected(hub, page):
        await until(lambda: "heartbeat" in page.comments)
        assert not health.report().ready
        topic.unavailable = False
        await started(page)
        assert health.report().ready
        topic.publish(0, "before")
        await page.until(1)
        topic.unavailable = True
        topic.touch()
        await until(lambda: not health.report().ready)
        topic.publish(0, "during")
        topic.unavailable = False
        await page.until(2)
    stop.set()
    await task
    assert page.names == ["before", "during"]


async def test_topic_created_again_under_the_hub_sends_a_gap_to_all() -> None:
    topic = Topic()
    page = Page()
    async with running(topic) as hub, connected(hub, page):
        await started(page)
        for number in range(5):
            topic.publish(0, f"d{number}")
        await page.until(5)
        async with broker_unavailable(topic):
            topic.records = [[] for _ in range(PARTITIONS)]
            topic.ends = [0] * PARTITIONS
            topic.publish(0, "anew")
        await page.until(7)
    assert [kind for kind, _, _ in page.events] == ["detections"] * 5 + ["gap", "detections"]
    assert page.events[-1][1] == "1.0.0"
    assert page.names[-1] == "anew"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that looks at its topic, and gives up what hangs, within a fraction of a second."""
    monkeypatch.setattr(topic_follower, "_LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(topic_follower, "_HANG_S", 0.2)


@pytest.mark.usefixtures("quick")
async def test_more_partitions_are_reported_and_streams_stay_open() -> None:
    topic = Topic()
    page = Page()
    health = Health()
    async with running(topic, health) as hub, connected(hub, page) as client:
        await started(page)
        topic.partitions = PARTITIONS + 1
        await until(lambda: not health.report().ready)
        assert "restart this process" in str(health.report().parts["sse"])
        looks = topic.state_calls
        await asyncio.sleep(0.2)
        assert topic.state_calls - looks < 30
        topic.publish(0, "sent-later")
        assert not client.done()
        topic.partitions = PARTITIONS
        await page.until(1)
        await until(lambda: health.report().ready)
    assert page.names == ["sent-later"]


@pytest.mark.usefixtures("quick")
async def test_topic_created_again_is_sent_from_its_start_after_a_gap() -> None:
    topic = Topic()
    topic.incarnation = "first"
    page, late = Page(), Page()
    health = Health()
    async with running(topic, health) as hub:
        async with connected(hub, page):
            await started(page)
            for number in range(3):
                topic.publish(0, f"d{number}")
            await page.until(3)
            former_id = page.last_id
            # More than before: the old position is inside the new topic.
            topic.recreate("second", *(f"n{number}" for number in range(6)))
            await until(lambda: page.names[-6:] == [f"n{number}" for number in range(6)])
        # What was read before this was noticed was sent, too.
        kinds = [kind for kind, _, _ in page.events]
        gap = kinds.index("gap")
        assert kinds[gap:] == ["gap"] + ["detections"] * 6
        (lost,) = orjson.loads(page.events[gap][2])["lost"]
        assert (lost["partition"], lost["to"], lost["reason"]) == (0, None, "recreated")
        await until(lambda: health.report().ready)
        # A client that returns with an id of the deleted topic.
        async with connected(hub, late, last_id=former_id):
            await late.until(1 + 6)
    assert [kind for kind, _, _ in late.events] == ["gap"] + ["detections"] * 6
    assert late.last_id == page.last_id


@pytest.mark.usefixtures("quick")
async def test_broker_back_with_topic_created_again_makes_it_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topic_follower, "_LOOKS_FAIL_S", 0.05)
    topic = Topic()
    topic.incarnation = "first"
    health = Health()
    async with running(topic, health) as hub:
        await until(lambda: hub.started and health.report().ready)
        topic.unavailable = True
        topic.touch()
        # Checks of the topic fail for so long that health reports it.
        await until(lambda: "topic detections:" in (health.part("sse").reason or ""))
        topic.recreate("second")
        topic.unavailable = False
        await until(lambda: health.report().ready)


@pytest.mark.usefixtures("quick")
async def test_hanging_partition_is_named_and_others_continue() -> None:
    topic = Topic()
    page = Page()
    health = Health()
    async with running(topic, health) as hub, connected(hub, page):
        await started(page)
        topic.hanging = {1}
        topic.touch()
        topic.publish(1, "waits")
        await until(lambda: not health.report().ready)
        assert "detections/1" in str(health.report().parts["sse"])
        assert "detections/0" not in str(health.report().parts["sse"])
        for number in range(20):
            topic.publish(number % 2 * 2, f"d{number}")
        await page.until(20)
        assert not health.report().ready
        topic.hanging = set()
        await page.until(21)
        await until(lambda: health.report().ready)
    assert page.names[-1] == "waits"
    assert {kind for kind, _, _ in page.events} == {"detections"}


@pytest.mark.usefixtures("quick")
async def test_truncated_topic_is_read_from_its_new_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_LOW_END_S", 0.05)
    monkeypatch.setattr(history, "_LOW_END_PAUSE_S", 0.01)
    topic = Topic()
    topic.incarnation = "first"
    page = Page()
    async with running(topic) as hub, connected(hub, page):
        await started(page)
        for number in range(5):
            topic.publish(0, f"d{number}")
        await page.until(5)
        async with broker_unavailable(topic):
            del topic.records[0][3:]
            topic.ends[0] = 3
        await page.until(6)
        topic.publish(0, "instead")
        await page.until(7)
    assert [kind for kind, _, _ in page.events] == ["detections"] * 5 + ["gap", "detections"]
    assert orjson.loads(page.events[5][2])["lost"] == [{"partition": 0, "from": 3, "to": 4, "reason": "truncated"}]
    assert page.names[-1] == "instead"


async def test_former_partitions_are_sent_before_added_ones() -> None:
    topic = Topic()
    # Before: one partition. Devices of it may have moved to 1 and 2, and everything there is newer.
    for number in range(50):
        topic.publish(0, f"before-{number}")
    for number in range(50):
        topic.publish(1 + number % 2, f"after-{number}")
    live, history_first = Page(), Page()
    async with running(topic, grown_from=1, client_queue_events=64) as hub, connected(hub, live, last_id="0"):
        await live.until(100)
    # A ring that begins in the middle: what it lacks is read from the topic.
    async with running(topic, grown_from=1, replay_events=30) as hub, connected(hub, history_first, last_id="0"):
        await history_first.until(100)
    for page in (live, history_first):
        assert len(set(page.names)) == 100
        assert page.names[:50] == [f"before-{number}" for number in range(50)]
