"""A client that returns with a position misses no event and gets none twice."""

from __future__ import annotations

import asyncio
import random

import orjson
import pytest

from sinks.sse import topic_follower
from sinks.sse.filters import StreamFilter
from tests.harnesses.sse_topic import PARTITIONS, CutError, Page, Topic, connected, running, started, until


@pytest.mark.parametrize("seed", range(12))
async def test_nothing_is_missed_or_repeated_across_cuts_and_processes(seed: int) -> None:
    """Two processes with rings of different length; a client is cut off at random and resumes at either."""
    rng = random.Random(seed)
    topic = Topic()
    expected: list[list[str]] = [[] for _ in range(PARTITIONS)]
    total = 240
    page = Page(last_id="0.0.0")

    async def publish() -> None:
        for number in range(total):
            partition = rng.randrange(PARTITIONS)
            topic.publish(partition, f"d{number}")
            expected[partition].append(f"d{number}")
            if rng.random() < 0.2:
                topic.mark(partition)
            if rng.random() < 0.3:
                await asyncio.sleep(0.001)

    async with (
        running(topic, replay_events=rng.choice([3, 20, 500])) as one,
        running(topic, replay_events=rng.choice([3, 20, 500])) as other,
    ):
        publishing = asyncio.create_task(publish())
        async with asyncio.timeout(20):
            while len(page.events) < total:
                page.cut_after = min(total, len(page.events) + rng.randrange(1, 40))
                async with connected(rng.choice([one, other]), page, last_id=page.last_id) as task:
                    await asyncio.wait({task})
                    assert isinstance(task.exception(), CutError)
        await publishing
    for partition, names in enumerate(expected):
        mine = set(names)
        assert [name for name in page.names if name in mine] == names, f"partition {partition}"
    assert len(page.names) == total


async def test_a_filtered_client_resumes_from_now_though_it_saw_nothing() -> None:
    topic = Topic()
    page = Page()
    async with running(topic, heartbeat_s=0.1) as hub, connected(hub, page, StreamFilter(labels=frozenset({"boat"}))):
        await started(page)
        for number in range(10):
            topic.publish(0, f"d{number}")
        await until(lambda: page.last_id == "a.0.0")
    assert page.events == []
    assert "heartbeat" in page.comments


async def test_id_older_than_the_topic_gets_a_retention_gap() -> None:
    topic = Topic()
    for number in range(10):
        topic.publish(0, f"d{number}")
    topic.drop_before(0, 6)
    page = Page()
    async with running(topic) as hub, connected(hub, page, last_id="2.0.0"):
        await page.until(5)
    kind, event_id, data = page.events[0]
    assert (kind, event_id) == ("gap", "6.0.0")
    assert orjson.loads(data) == {"lost": [{"partition": 0, "from": 2, "to": 5, "reason": "retention"}]}
    assert page.names == ["d6", "d7", "d8", "d9"]


async def test_id_of_deleted_topic_gets_a_gap_and_all_of_the_new_topic() -> None:
    topic = Topic()
    topic.publish(1, "new")
    page = Page()
    async with running(topic) as hub, connected(hub, page, last_id="0.99.0"):
        await page.until(2)
    assert orjson.loads(page.events[0][2])["lost"] == [{"partition": 1, "from": 153, "to": None, "reason": "recreated"}]
    assert page.names == ["new"]


async def test_resume_while_broker_is_unavailable_waits_and_loses_nothing() -> None:
    topic = Topic()
    for number in range(20):
        topic.publish(0, f"d{number}")
    page = Page()
    async with running(topic, replay_events=3) as hub:
        await until(lambda: hub.started)
        topic.unavailable = True
        async with connected(hub, page, last_id="0.0.0"):
            await until(lambda: "waiting for the broker" in page.comments)
            topic.unavailable = False
            await page.until(20)
    assert page.names == [f"d{number}" for number in range(20)]


async def test_loss_to_retention_during_a_pause_sends_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    topic = Topic()
    page = Page()
    async with running(topic) as hub, connected(hub, page):
        await started(page)
        for number in range(3):
            topic.publish(0, f"d{number}")
        await page.until(3)
        # As after a long SIGSTOP: time has passed, and retention has deleted records.
        monkeypatch.setattr(topic_follower, "_SILENCE_S", -1.0)
        topic.ends[0] = 8
        topic.drop_before(0, 8)
        await page.until(4)
        monkeypatch.setattr(topic_follower, "_SILENCE_S", 30.0)
        topic.publish(0, "after")
        await page.until(5)
    assert [kind for kind, _, _ in page.events] == ["detections"] * 3 + ["gap", "detections"]
    assert orjson.loads(page.events[3][2])["lost"] == [{"partition": 0, "from": 3, "to": 7, "reason": "retention"}]


@pytest.mark.parametrize("last_id", ["garbage", "1.2.3.4.5", "-1", "9" * 300, "1.2.3-zz"])
async def test_an_id_of_no_stream_gets_a_reset_event_whose_id_resumes(last_id: str) -> None:
    topic, page = Topic(), Page()
    topic.publish(0, "past")
    async with running(topic) as hub:
        async with connected(hub, page, last_id=last_id):
            await page.until(1)
            topic.publish(0, "d0")
            await page.until(2)
        assert [name for name, _, _ in page.events] == ["reset", "detections"]
        assert "Last-Event-ID" in orjson.loads(page.events[0][2])["reason"]
        topic.publish(1, "d1")
        async with connected(hub, page, last_id=page.last_id):
            await page.until(3)
    assert page.names == ["d0", "d1"]


async def test_end_of_a_session_writes_the_reason_and_its_id_resumes() -> None:
    topic, page = Topic(), Page()
    async with running(topic) as hub:
        async with connected(hub, page, directly=True) as task:
            await started(page)
            topic.publish(0, "d0")
            await page.until(1)
            for client in hub._clients:
                client.session.end("your key has changed")
            await asyncio.wait_for(task, 5)
        topic.publish(0, "d1")
        async with connected(hub, page, last_id=page.last_id):
            await page.until(2)
    assert page.comments[-1] != "live"
    assert "your key has changed" in page.comments
    assert page.names == ["d0", "d1"]


async def test_end_of_a_session_before_the_topic_was_read_writes_the_reason() -> None:
    topic, page = Topic(), Page()
    topic.unavailable = True
    async with running(topic) as hub, connected(hub, page) as task:
        await until(lambda: bool(page.comments))
        for client in hub._clients:
            client.session.end("your key has changed")
        await asyncio.wait_for(task, 5)
    assert page.comments[-1] == "your key has changed"
    assert page.last_id is None
