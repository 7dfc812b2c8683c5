"""Checks that a thread's frames reach the loop in order, that few wait, and that a stop ends the thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from ingest.video.handover import Handover
from ingest.video.port import VideoFrame


def frame(number: int) -> VideoFrame:
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    return VideoFrame(b"", 1, 1, number, "a", 0.0, moment, "option", None)


async def test_frames_come_in_order_and_then_the_end_for_good() -> None:
    taken = Handover(lambda: iter([frame(number) for number in range(20)]), 3)
    taken.start()
    numbers = [found.number for _ in range(20) if (found := await taken.next()) is not None]
    assert numbers == list(range(20))
    assert await taken.next() is None
    assert await taken.next() is None


async def test_at_most_the_places_are_filled() -> None:
    made = 0

    def frames() -> Iterator[VideoFrame]:
        nonlocal made
        while True:
            made += 1
            yield frame(made)

    taken = Handover(frames, 3)
    taken.start()
    await taken.next()
    await asyncio.sleep(0.05)
    assert made <= 5
    assert await taken.stop(5.0)


async def test_the_error_of_the_thread_is_raised_after_its_frames() -> None:
    def frames() -> Iterator[VideoFrame]:
        yield frame(0)
        raise ValueError("broken")

    taken = Handover(frames, 3)
    taken.start()
    assert await taken.next() is not None
    with pytest.raises(ValueError, match="broken"):
        await taken.next()


async def test_a_stop_ends_a_thread_that_waits_for_a_place() -> None:
    taken = Handover(lambda: iter([frame(number) for number in range(30)]), 2)
    taken.start()
    assert await taken.next() is not None
    assert await taken.stop(5.0)
