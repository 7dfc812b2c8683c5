"""A replay is held back by its rate and by the backlog."""

from __future__ import annotations

import asyncio

from infra.errors import BrokerUnavailableError
from ingest.replay.pace import BacklogGate, Rate


async def test_take_keeps_the_rate() -> None:
    rate, loop = Rate(100.0), asyncio.get_running_loop()
    began_s = loop.time()
    for _ in range(11):
        await rate.take(1)
    assert 0.09 <= loop.time() - began_s < 1.0


async def test_take_without_a_rate_never_waits() -> None:
    await asyncio.wait_for(Rate(None).take(1e9), 1.0)


async def test_enter_waits_for_the_backlog_and_counts_frames_in_progress() -> None:
    backlog, reports = [0], list[str | None]()

    async def read() -> int:
        return backlog[0]

    gate = BacklogGate(read, 3, 0.01, reports.append)
    for _ in range(3):
        await asyncio.wait_for(gate.enter(), 1.0)
    waiting = asyncio.create_task(gate.enter())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    assert reports[-1] is not None
    assert "replay.max_backlog is 3" in reports[-1]
    gate.settle(3)
    backlog[0] = 3  # now they are in the topic
    await asyncio.sleep(0.05)
    assert not waiting.done()
    backlog[0] = 2
    await asyncio.wait_for(waiting, 1.0)
    assert reports[-1] is None


async def test_enter_waits_while_the_backlog_cannot_be_read() -> None:
    answers, reports = [True, True, False], list[str | None]()

    async def read() -> int:
        if answers.pop(0):
            raise BrokerUnavailableError("it is away")
        return 0

    gate = BacklogGate(read, 1, 0.01, reports.append)
    await asyncio.wait_for(gate.enter(), 1.0)
    assert reports == ["the backlog cannot be read: it is away"] * 2 + [None]


async def test_enter_without_a_limit_never_reads() -> None:
    async def read() -> int:
        raise AssertionError

    await BacklogGate(read, 0, 1.0, lambda _: None).enter()
