"""A wait for an event ends with the event, with its time, or with its task."""

from __future__ import annotations

import asyncio

import pytest

from infra.waiting import wait_until_set


async def test_wait_ends_with_the_event_or_with_its_time() -> None:
    event = asyncio.Event()
    assert not await wait_until_set(event, 0.01)
    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await wait_until_set(event, 60)
    assert await wait_until_set(event, 0)


@pytest.mark.parametrize("rounds", range(4))
async def test_cancellation_close_to_the_event_is_never_swallowed(rounds: int) -> None:
    event = asyncio.Event()
    task = asyncio.create_task(wait_until_set(event, 60))
    await asyncio.sleep(0)
    event.set()
    for _ in range(rounds):
        await asyncio.sleep(0)
    accepted = task.cancel()
    await asyncio.wait({task})
    assert task.cancelled() == accepted
