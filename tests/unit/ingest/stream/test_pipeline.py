"""The pipeline of a stream with a stand-in for the acceptance: order, failures one by one, and the end by force."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, cast

from infra.errors import RecordTooLargeError, StoreUnavailableError
from infra.http_api.limits.slots import UploadSlots
from ingest.acceptance.acceptance import Acceptance, PreparedFrame
from ingest.acceptance.fields import FrameFields
from ingest.settings import GatewaySettings
from ingest.stream.memory import FrameMemory
from ingest.stream.pipeline import FramePipeline
from ingest.stream.recent_frames import RecentFrames
from ingest.stream.sessions import Sessions
from ingest.stream.wire import Window
from schemas.events import FrameCaptured
from schemas.frame_messages import frame_message
from standgale.testing.factories import frame_captured

DEVICE = "drone-1"


class Stored:
    """Accepts frames whose image is their number; fails, or waits, as a test sets."""

    def __init__(self) -> None:
        self.failing: dict[int, Exception] = {}
        self.too_large: set[int] = set()
        self.waiting: dict[int, asyncio.Event] = {}
        self.published: list[list[int]] = []

    def require_room(self, device_id: str, topic: str) -> None:
        pass

    async def prepare(self, device_id: str, image: bytes, fields: FrameFields) -> PreparedFrame:
        number = int(image)
        if number in self.waiting:
            await self.waiting[number].wait()
        if number in self.failing:
            raise self.failing.pop(number)
        return PreparedFrame(frame_captured(number, original_filename=str(number)), [])

    async def publish(self, events: Sequence[FrameCaptured], topic: str) -> None:
        numbers = [int(event.original_filename or "") for event in events]
        if self.too_large.intersection(numbers):
            raise RecordTooLargeError("the record has 2000000 bytes")
        if numbers:
            self.published.append(numbers)


class Line:
    """Is a pipeline with its session and the answers that it gave."""

    def __init__(self) -> None:
        async def send(text: str) -> None:
            self.answers.append(json.loads(text))

        async def reader() -> Any:
            raise AssertionError("nothing is looked up")

        self.slots = UploadSlots(64, 1_000_000, "a.setting")
        self.stored = Stored()
        self.answers: list[dict[str, Any]] = []
        self.memory = FrameMemory(self.slots, DEVICE, Window(16, 100_000), 1_000, cast(Any, None))
        recent = RecentFrames(reader, 1, 10)
        recent.read = _nothing  # type: ignore[method-assign]
        acceptance = cast(Acceptance, self.stored)
        self.pipeline = FramePipeline(acceptance, GatewaySettings(), recent, DEVICE, self.memory, send)
        self.pipeline.begin(Sessions(1, 16).take_over(DEVICE, "s", 1, False, cast(Any, None)))

    def send(self, *numbers: int) -> None:
        for number in numbers:
            image = str(number).encode()
            message = frame_message(number, b"", image)
            assert self.memory.begin(len(message))
            slot = self.memory.arrived(len(message))
            assert slot is not None
            self.pipeline.take(message, slot)

    async def finish(self) -> list[tuple[str, int]]:
        self.pipeline.finish()
        await asyncio.wait_for(self.pipeline.run(), 5)
        await self.pipeline.close()
        return [(answer["type"], answer["sequence"]) for answer in self.answers]


async def _nothing(device_id: str) -> None:
    pass


async def test_frames_wait_for_earlier_ones_and_are_published_together() -> None:
    line = Line()
    line.stored.waiting[1] = asyncio.Event()
    line.send(1, 2, 3)
    asyncio.get_running_loop().call_later(0.05, line.stored.waiting[1].set)
    assert await line.finish() == [("ack", 1), ("ack", 2), ("ack", 3)]
    assert line.stored.published == [[1, 2, 3]]
    assert line.memory.unanswered == (0, 0) and line.slots.share("x") == (32, 500_000)


async def test_frames_before_a_failed_one_are_published_and_those_behind_it_discarded() -> None:
    line = Line()
    line.stored.failing[3] = StoreUnavailableError("the disk is gone")
    line.send(1, 2, 3, 4, 5)
    running = asyncio.create_task(line.pipeline.run())
    async with asyncio.timeout(5):
        while not line.pipeline.is_idle:  # noqa: ASYNC110
            await asyncio.sleep(0)
    line.send(6)
    line.send(3, 4)
    assert await line.finish() == [("ack", 1), ("ack", 2), ("later", 3), ("ack", 3), ("ack", 4)]
    await running
    assert [number for numbers in line.stored.published for number in numbers] == [1, 2, 3, 4]
    assert line.memory.unanswered == (0, 0)


async def test_frame_that_the_broker_never_takes_is_refused_alone() -> None:
    line = Line()
    line.stored.too_large = {2}
    line.send(1, 2, 3)
    assert await line.finish() == [("ack", 1), ("refused", 2), ("ack", 3)]


async def test_frames_being_stored_are_given_up_when_the_time_is_over() -> None:
    line = Line()
    line.stored.waiting = {1: asyncio.Event(), 2: asyncio.Event()}
    line.send(1, 2)
    await asyncio.sleep(0)
    line.pipeline.cancel()
    await asyncio.wait_for(line.pipeline.close(), 5)
    assert line.slots.share("x") == (32, 500_000)
