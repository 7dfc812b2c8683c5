"""Checks that memory is limited and given out in the order of the requests."""

from __future__ import annotations

import asyncio

from detectors.worker.pipeline.memory_budget import MemoryBudget


async def test_memory_budget_is_given_in_order_of_requests() -> None:
    memory, got = MemoryBudget(100), list[str]()

    async def take(name: str, size: int) -> None:
        await memory.take(size)
        got.append(name)

    await take("larger than all, but alone", 1_000)
    tasks = [asyncio.create_task(take(*each)) for each in (("big", 90), ("given up", 5), ("small", 10), ("last", 10))]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    memory.give(1_000)
    await asyncio.sleep(0)
    assert got[1:] == ["big", "small"], "the last fits only together with the small one"
    memory.give(90)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert got[3:] == ["last"]
    memory.give(20)
    await take("all", 100)
