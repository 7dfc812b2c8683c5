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


async def test_owners_have_turns_and_small_requests_pass_a_large_one_but_not_for_ever() -> None:
    memory, got = MemoryBudget(100), list[str]()

    async def take(name: str, size: int) -> None:
        await memory.take(size, name[0])
        got.append(name)

    await take("a0", 60)
    tasks = [asyncio.create_task(take(f"a{number}", 60)) for number in (1, 2)]
    await asyncio.sleep(0)
    small = [asyncio.create_task(take(f"b{number}", 1)) for number in range(200)]
    await asyncio.sleep(0)
    assert got[1] == "b0", "what fits does not wait for another owner's large request"
    for _ in range(200):
        memory.give(1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if len(got) < 40:
            continue
        break
    assert "a1" not in got
    memory.give(60)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert "a1" in got
    for task in (*tasks, *small):
        task.cancel()
    await asyncio.gather(*tasks, *small, return_exceptions=True)


async def test_a_large_request_is_passed_by_a_bounded_number_of_small_ones() -> None:
    memory, small = MemoryBudget(100), 0
    await memory.take(50, "b")
    large = asyncio.create_task(memory.take(80, "a"))
    await asyncio.sleep(0)
    for _ in range(1_000):
        one = asyncio.create_task(memory.take(10, "b"))
        await asyncio.sleep(0)
        if not one.done():
            await asyncio.sleep(0)
        if not one.done():
            break
        small += 1
        memory.give(10)
    assert 10 < small < 100
    memory.give(50)
    await asyncio.wait_for(large, 5)
    one.cancel()
    await asyncio.gather(one, return_exceptions=True)
