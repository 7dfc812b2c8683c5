"""Delays between attempts."""

from __future__ import annotations

import asyncio
import random

from infra.failure.backoff import Backoff
from infra.failure.settings import RetrySettings


def test_backoff_doubles_to_its_limit_with_jitter_and_starts_again() -> None:
    backoff = Backoff(RetrySettings(first_delay_s=1.0, max_delay_s=5.0), rng=random.Random(1))
    delays = [backoff.next_delay_s() for _ in range(6)]
    for delay, whole in zip(delays, [1, 2, 4, 5, 5, 5], strict=True):
        assert whole / 2 <= delay <= whole
    assert len(set(delays[3:])) == 3
    backoff.reset()
    assert backoff.next_delay_s() <= 1.0


async def test_waiting_ends_when_the_process_stops() -> None:
    stop = asyncio.Event()
    backoff = Backoff(RetrySettings(first_delay_s=60.0, max_delay_s=60.0))
    waiting = asyncio.create_task(backoff.wait(stop))
    await asyncio.sleep(0)
    stop.set()
    assert await asyncio.wait_for(waiting, 5) is False
