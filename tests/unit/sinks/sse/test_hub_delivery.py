"""Every client gets each event once and in order, independent of other clients."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import orjson
import pytest

from infra.process.health import Health
from sinks.sse.filters import EVERYTHING, StreamFilter
from sinks.sse.hub import DetectionHub
from sinks.sse.positions import Position, encode_position
from sinks.sse.session import Session
from tests.harnesses.sse_topic import PARTITIONS, Page, Topic, connected, running, settings, started, until


async def test_live_events_reach_all_clients_in_order_without_history() -> None:
    topic = Topic()
    topic.publish(0, "past")
    pages = [Page() for _ in range(5)]
    async with running(topic) as hub:
        contexts = [connected(hub, page) for page in pages]
        for context, page in zip(contexts, pages, strict=True):
            await context.__aenter__()
            await started(page)
        for number in range(50):
            topic.publish(number % PARTITIONS, f"d{number}")
        for page in pages:
            await page.until(50)
        for context in contexts:
            await context.__aexit__(None, None, None)
    for page in pages:
        assert sorted(page.names) == sorted(f"d{number}" for number in range(50))
        assert [name for name in page.names if int(name[1:]) % 3 == 1] == [f"d{n}" for n in range(50) if n % 3 == 1]


async def test_equal_filters_share_the_very_same_bytes() -> None:
    topic = Topic()
    pages = [Page(), Page()]
    wanted = [StreamFilter(labels=frozenset({"boat"})), StreamFilter(labels=frozenset({"boat"}))]
    async with running(topic) as hub:
        async with connected(hub, pages[0], wanted[0]), connected(hub, pages[1], wanted[1]):
            for page in pages:
                await started(page)
            number = hub.ring.next_number
            topic.publish(0, "d0", "boat")
            for page in pages:
                await page.until(1)
        assert hub.ring.filtered(number, wanted[0]) is hub.ring.filtered(number, wanted[1])


async def test_poison_is_skipped_and_the_stream_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    topic = Topic()
    page = Page()
    async with running(topic) as hub, connected(hub, page):
        await started(page)
        topic.publish(0, "d0")
        topic.publish(0, "bad", value=b"{not json")
        topic.publish(0, "d1")
        await page.until(2)
    assert page.names == ["d0", "d1"]
    assert "a record was skipped" in caplog.text


async def test_event_of_newer_version_is_skipped_and_noted_in_health(caplog: pytest.LogCaptureFixture) -> None:
    topic, page, health = Topic(), Page(), Health()
    async with running(topic, health) as hub, connected(hub, page):
        await started(page)
        topic.publish(0, "d0")
        new = topic.records[0][-1]
        headers = tuple(
            (name, b"standgale.detections.made.v2" if name == "ce_type" else value) for name, value in new.headers
        )
        topic.records[0].append(replace(new, offset=topic.ends[0], headers=headers))
        topic.mark(0)
        topic.publish(0, "d1")
        await page.until(2)
        await until(lambda: "1 events were skipped" in (health.part("sse").report().note or ""))
    assert page.names == ["d0", "d1"]
    assert [record.levelname for record in caplog.records if "update this program" in record.message] == ["ERROR"]


async def test_slow_client_is_disconnected_and_resumes_without_loss() -> None:
    topic = Topic()
    page = Page(gate=asyncio.Event())
    assert page.gate is not None
    async with running(topic, client_queue_events=8) as hub:
        page.gate.set()
        async with connected(hub, page) as task:
            await started(page)
            page.gate.clear()
            for number in range(40):
                topic.publish(0, f"d{number}")
                await asyncio.sleep(0.001)
            await until(lambda: hub.ring.end == (40, 0, 0))
            page.gate.set()
            await asyncio.wait({task}, timeout=5)
            assert task.done()
            assert task.exception() is None
        kind, event_id, data = page.events[-1]
        assert kind == "overflow"
        assert orjson.loads(data)["pending"] > 8
        async with connected(hub, page, last_id=event_id):
            await page.until(41)
    assert page.names == [f"d{number}" for number in range(40)]


async def test_a_client_that_takes_nothing_at_all_is_cut_off() -> None:
    topic = Topic()
    page = Page(gate=asyncio.Event())
    async with running(topic, heartbeat_s=0.1) as hub:
        session = Session(hub, EVERYTHING, None)
        with hub.client(session) as client:

            async def write(data: bytes) -> None:
                client.writing_since = asyncio.get_running_loop().time()
                await page.write(data)

            client.writer = asyncio.create_task(session.run(write))
            await asyncio.wait({client.writer}, timeout=5)
            assert client.writer.cancelled()


async def test_stop_sends_what_is_pending_and_ends_the_stream() -> None:
    topic = Topic()
    page = Page()
    hub = DetectionHub(topic, settings())
    stop = asyncio.Event()
    task = asyncio.create_task(hub.run(stop, Health().part("sse")))
    async with connected(hub, page) as client:
        await started(page)
        topic.publish(0, "last")
        await page.until(1)
        stop.set()
        await asyncio.wait({client}, timeout=5)
        assert client.done()
        assert client.exception() is None
    await task
    assert page.comments[-1] == "closing, connect again"
    assert page.last_id == "1.0.0"


async def test_a_burst_longer_than_a_clients_queue_does_not_make_it_slow() -> None:
    topic = Topic()
    page = Page()
    async with running(topic, client_queue_events=40) as hub, connected(hub, page):
        await started(page)
        for number in range(1_000):
            topic.publish(number % PARTITIONS, f"d{number}")
        await page.until(1_000)
    assert len(set(page.names)) == 1_000
    assert {kind for kind, _, _ in page.events} == {"detections"}


def test_a_position_is_short() -> None:
    busy: Position = (10_000_000,) * 8
    assert len(encode_position(busy)) < 60
