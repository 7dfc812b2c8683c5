"""Checks that a thread's frames reach the loop in order, that few wait, and that a stop ends the thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from ingest.video import handover
from ingest.video.handover import Handover
from ingest.video.port import VideoFrame


def frame(number: int) -> VideoFrame:
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    return VideoFrame(b"", 1, 1, number, "a", 0.0, moment, "option", None)


async def test_frames_come_in_order_and_then_the_end_for_good() -> None:
    taken = Handover(lambda: iter([frame(number) for number in range(20)]), 3, overflow=lambda: False)
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

    taken = Handover(frames, 3, overflow=lambda: False)
    taken.start()
    await taken.next()
    await asyncio.sleep(0.05)
    assert made <= 5
    assert await taken.stop(5.0)


async def test_the_error_of_the_thread_is_raised_after_its_frames() -> None:
    def frames() -> Iterator[VideoFrame]:
        yield frame(0)
        raise ValueError("broken")

    taken = Handover(frames, 3, overflow=lambda: False)
    taken.start()
    assert await taken.next() is not None
    with pytest.raises(ValueError, match="broken"):
        await taken.next()


async def test_a_frame_without_a_place_is_left_out_and_later_ones_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "OVERFLOW_S", 0.02)
    left_out = threading.Event()
    count = 0

    def overflow() -> bool:
        nonlocal count
        count += 1
        if count == 2:
            left_out.set()
        return True

    taken = Handover(lambda: iter([frame(number) for number in range(30)]), 2, overflow=overflow)
    taken.start()
    await asyncio.to_thread(left_out.wait, 5.0)
    numbers = []
    while (found := await taken.next()) is not None:
        numbers.append(found.number)
    assert numbers[:2] == [0, 1]
    assert len(numbers) == 30 - count
