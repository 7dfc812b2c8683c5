"""Clients read pieces of their bodies in turn."""

from __future__ import annotations

import asyncio

from infra.http_api.limits.turns import Turns


async def test_each_client_reads_one_piece_in_a_round_of_the_event_loop() -> None:
    turns = Turns()
    order: list[str] = []

    async def read(client: str, pieces: int) -> None:
        for _ in range(pieces):
            await turns.wait(client)
            order.append(client)
            await asyncio.sleep(0)

    greedy = [asyncio.create_task(read("greedy", 5)) for _ in range(10)]
    modest = asyncio.create_task(read("modest", 5))
    await modest
    assert order.count("greedy") <= 7
    greedy[0].cancel()
    await asyncio.gather(*greedy[1:])
    assert order.count("greedy") >= 45


async def test_a_client_whose_waiting_upload_was_cancelled_reads_on() -> None:
    turns = Turns()
    await turns.wait("d")
    cancelled = asyncio.create_task(turns.wait("d"))
    last = asyncio.create_task(turns.wait("d"))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait_for(last, 1)


async def test_a_client_has_a_rate_while_another_one_sends_and_none_alone() -> None:
    loop, turns = asyncio.get_running_loop(), Turns()

    async def read(client: str, pieces: int) -> float:
        begin = loop.time()
        for _ in range(pieces):
            await turns.wait(client)
        return loop.time() - begin

    await turns.wait("modest")
    assert await read("greedy", 132) >= 0.19
    assert await read("modest", 10) < 0.1
    alone = Turns()
    alone._alone_since, alone._newest = loop.time() - 2.0, "greedy"
    for _ in range(500):
        await alone.wait("greedy")
    assert alone._due == {}
