"""Blocks with the same time limit share one timer, and each ends at its own time."""

from __future__ import annotations

import asyncio
import time

import pytest

from infra.time_limits import time_limit


async def _hang(seconds: float, began: list[float]) -> float:
    """Wait in a limited block for ever; return how long it took to end."""
    start = time.monotonic()
    began.append(start)
    with pytest.raises(TimeoutError), time_limit(seconds):
        await asyncio.Event().wait()
    return time.monotonic() - start


async def test_each_block_ends_after_its_own_time_and_not_before() -> None:
    began: list[float] = []
    tasks = []
    for _ in range(3):
        tasks.append(asyncio.create_task(_hang(0.08, began)))
        await asyncio.sleep(0.02)
    for seconds in await asyncio.gather(*tasks):
        assert 0.07 <= seconds < 0.5
    assert await _hang(0.02, began) < 0.5


async def test_block_that_ends_in_time_is_not_cancelled_later() -> None:
    with time_limit(0.02):
        await asyncio.sleep(0)
    with time_limit(0.02):
        pass
    await asyncio.sleep(0.06)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_cancellation_from_outside_stays_a_cancellation() -> None:
    async def wait() -> None:
        with time_limit(60):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_cancellation_at_the_end_of_the_time_is_not_swallowed() -> None:
    async def wait() -> None:
        with time_limit(0.02):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    # Both ask for the end before the task runs again.
    asyncio.get_running_loop().call_later(0.01, lambda: time.sleep(0.02))
    asyncio.get_running_loop().call_later(0.011, task.cancel)
    await asyncio.wait({task})
    assert task.cancelled()


async def test_inner_block_with_the_shorter_limit_ends_first() -> None:
    with time_limit(5.0):
        with pytest.raises(TimeoutError), time_limit(0.02):
            await asyncio.Event().wait()
        await asyncio.sleep(0)


async def test_error_inside_the_block_goes_on_unchanged() -> None:
    with pytest.raises(ValueError, match="own"), time_limit(1.0):
        raise ValueError("own")


def test_next_event_loop_of_the_thread_has_timers_of_its_own() -> None:
    async def leave_a_timer() -> None:
        with time_limit(0.03):
            await asyncio.sleep(0)

    asyncio.run(leave_a_timer())
    assert asyncio.run(_hang(0.03, [])) < 0.5


def test_block_outside_of_a_task_is_refused() -> None:
    with pytest.raises(RuntimeError), time_limit(1.0):
        pass
