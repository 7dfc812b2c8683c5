"""Events go to clients that wait for them without a turn of their task, in the same order and with the same ids."""

from __future__ import annotations

import asyncio

from sinks.sse.filters import StreamFilter
from tests.harnesses.sse_topic import Page, Topic, connected, running, started, until


async def test_send_newest_shares_one_piece_among_clients_with_equal_filters() -> None:
    topic, pages, boats = Topic(), [Page(), Page()], Page()
    wanted = StreamFilter(labels=frozenset({"boat"}))
    async with (
        running(topic) as hub,
        connected(hub, pages[0], directly=True),
        connected(hub, pages[1], directly=True),
        connected(hub, boats, wanted, directly=True),
    ):
        for page in (*pages, boats):
            await started(page)
        await asyncio.sleep(0.01)
        for number in range(20):
            topic.publish(0, f"d{number}", "boat" if number % 2 else "car")
            await until(lambda wanted=number + 1: all(len(page.events) == wanted for page in pages))
        await boats.until(10)
    assert [page.names for page in pages] == [[f"d{number}" for number in range(20)]] * 2
    assert boats.names == [f"d{number}" for number in range(1, 20, 2)]
    assert len(pages[0].pieces) == 20
    assert all(one is other for one, other in zip(pages[0].pieces, pages[1].pieces, strict=True))
    # What a filter drops moves the id of the client all the same.
    assert boats.last_id == pages[0].last_id


async def test_send_newest_refused_by_a_full_connection_is_sent_by_the_task_in_order() -> None:
    topic, page = Topic(), Page()
    async with running(topic) as hub, connected(hub, page, directly=True):
        await started(page)
        for number in range(60):
            if number % 7 == 3:
                page.gate = asyncio.Event()
            elif number % 7 == 5 and page.gate is not None:
                page.gate.set()
            topic.publish(number % 2, f"d{number}")
            await asyncio.sleep(0.003)
        if page.gate is not None:
            page.gate.set()
        await page.until(60)
    assert sorted(page.names) == sorted(f"d{number}" for number in range(60))
    for partition in range(2):
        assert [name for name in page.names if int(name[1:]) % 2 == partition] == [
            f"d{number}" for number in range(partition, 60, 2)
        ]
    assert 0 < len(page.pieces) < 60


async def test_send_newest_ids_resume_without_loss_or_repetition() -> None:
    topic, page = Topic(), Page()
    async with running(topic, replay_events=10) as hub:
        for turn in range(10):
            async with connected(hub, page, last_id=page.last_id, directly=True):
                if page.last_id is None:
                    await started(page)
                for number in range(5):
                    topic.publish(number % 3, f"d{turn}-{number}")
                    await asyncio.sleep(0.003)
                await page.until(turn * 10 + 5)
            for number in range(5, 10):
                topic.publish(number % 3, f"d{turn}-{number}")
            await until(lambda: sum(hub.ring.end) == sum(topic.ends))
        async with connected(hub, page, last_id=page.last_id, directly=True):
            await page.until(100)
    assert sorted(page.names) == sorted(f"d{turn}-{number}" for turn in range(10) for number in range(10))
