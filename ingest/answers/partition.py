"""Finds the answers to the frames of one partition: detections events, and dead letters.

An answer is found when its record is read, because the partition is followed from before the frame is published. A
frame that was answered earlier (the device sends it again, and detectors drop what they have answered) gets its answer
from the end of the partition. That costs one look at as many events as detectors remember (``tail``), so it is only
done for a frame that has waited for some time, once, and for all frames together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeVar

from infra.broker.port import InRecord, TopicPartition
from infra.broker.reading import opened_reader, read_newest, respond_within
from infra.errors import TransientError
from infra.failure.error_texts import error_text
from ingest.answers.follower import HANG_S, OpenReader, PartitionFollower
from ingest.answers.offsets import DetectionsOffsets, frame_in
from schemas.cloudevents import decode, header
from schemas.errors import EventError, EventVersionError
from schemas.events import DeadLetter, DetectionsMade
from schemas.topics import DETECTIONS, FRAMES_BACKFILL, FRAMES_DEAD, FRAMES_LIVE

logger = logging.getLogger(__name__)

Answer = DetectionsMade | DeadLetter
EventT = TypeVar("EventT", DetectionsMade, DeadLetter)

_LOOK_BACK_AFTER_S = 0.5
_AGAIN_AFTER_S = 1.0
_LOOK_BACK_LIMIT_S = 60.0
_BATCH = 500
# Decoding a larger record takes the event loop more than about a millisecond.
_INLINE_BYTES = 32 * 1024


class WaitingFrame:
    """Waits for the answer to one frame; made by :meth:`PartitionAnswers.expect` before the frame is published."""

    def __init__(self, partition: PartitionAnswers, frame_id: str, device_id: str) -> None:
        self.frame_id = frame_id
        self.device_id = device_id
        self._partition = partition
        self._found: asyncio.Future[InRecord | DeadLetter | None] = asyncio.get_running_loop().create_future()

    def give(self, found: InRecord | DeadLetter | None) -> None:
        """End the wait: with an answer, or without one because the process stops."""
        if not self._found.done():
            self._found.set_result(found)

    async def answer(self, deadline: float) -> Answer | None:
        """Return the answer, or None at ``deadline`` (of the event loop's clock) or when the process stops."""
        looking = asyncio.create_task(self._look_back(), name="answers-look-back")
        try:
            async with asyncio.timeout_at(deadline):
                found = await self._found
        except TimeoutError:
            return None
        finally:
            looking.cancel()
            self._partition.forget(self)
        if not isinstance(found, InRecord):
            return found
        try:
            return await _decoded(found, DetectionsMade)
        except (EventError, EventVersionError) as error:
            logger.error("the detections event of a frame cannot be read: %s", error, extra={"frame_id": self.frame_id})
            return None

    async def _look_back(self) -> None:
        await asyncio.sleep(0 if self._partition.remembers(self.frame_id) else _LOOK_BACK_AFTER_S)
        while True:
            try:
                record = await self._partition.find_earlier(self.frame_id)
            except (TransientError, OSError) as error:
                # The follower has logged the outage; here many frames fail alike.
                logger.debug("the end of a partition cannot be searched for an answer now: %s", error_text(error))
                await asyncio.sleep(_AGAIN_AFTER_S)
            else:
                if record is not None:
                    self.give(record)
                if record is not None or self._partition.is_searched:
                    return
                await asyncio.sleep(_AGAIN_AFTER_S)


class PartitionAnswers:
    """Follows the partitions of ``detections`` and ``frames.dead`` that have the answers of some devices."""

    def __init__(self, open_reader: OpenReader, detections: int, dead: int, tail: int) -> None:
        self._open_reader = open_reader
        self._source = TopicPartition(DETECTIONS, detections)
        self._tail = tail
        self._waiting: dict[str, list[WaitingFrame]] = {}
        self._offsets = DetectionsOffsets(tail)
        self._first: int | None = None
        """The offset from which it follows; what is before it was not read yet"""
        self._completing: asyncio.Task[None] | None = None
        self._complete = self._stopped = False
        self._detections = PartitionFollower(open_reader, self._source, self._take_detections, self._begin)
        letters = TopicPartition(FRAMES_DEAD, dead)
        self._letters = PartitionFollower(open_reader, letters, self._take_letters, lambda _: None)

    @property
    def problem(self) -> str | None:
        """The code of the error because of which answers cannot be read now; None when they can."""
        return self._detections.problem or self._letters.problem

    @property
    def is_searched(self) -> bool:
        """Whether all that is in the last events of the partition is remembered."""
        return self._complete

    async def wait_until_followed(self, timeout_s: float) -> None:
        """Wait until no new answer can be missed, or for ``timeout_s``: then it is found later, and not at once.

        While the partition cannot be read there is no wait, because frames would wait in memory for nothing.
        """
        if self.problem is not None or (self._detections.began.is_set() and self._letters.began.is_set()):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._detections.began.wait()
                await self._letters.began.wait()

    def expect(self, frame_id: str, device_id: str) -> WaitingFrame:
        """Begin to wait for the answer to a frame, which is to be published after this call."""
        frame = WaitingFrame(self, frame_id, device_id)
        if self._stopped:
            frame.give(None)
        self._waiting.setdefault(frame_id, []).append(frame)
        return frame

    def forget(self, frame: WaitingFrame) -> None:
        """Stop waiting for ``frame``; it does no harm when nothing waits for it."""
        frames = self._waiting.get(frame.frame_id, [])
        if frame in frames:
            frames.remove(frame)
        if not frames:
            self._waiting.pop(frame.frame_id, None)

    def remembers(self, frame_id: str) -> bool:
        """Whether the frame was answered while the partition was followed, or its end was searched."""
        return self._offsets.find(frame_id) is not None

    async def find_earlier(self, frame_id: str) -> InRecord | None:
        """Return the newest detections event among the last ones of the partition that is for ``frame_id``.

        Raises TransientError.
        """
        if not self.remembers(frame_id) and not self._complete:
            if self._completing is None or self._completing.done():
                self._completing = asyncio.create_task(self._read_tail(), name="answers-tail")
                self._completing.add_done_callback(_read_result)
            # Several frames wait for it; the end of one's patience must not begin it anew for the others.
            await asyncio.shield(self._completing)
        offset = self._offsets.find(frame_id)
        if offset is None:
            return None
        async with opened_reader(self._open_reader(), HANG_S) as reader:
            read = reader.read(self._source, offset, max_records=1, timeout_s=0)
            records = await respond_within(read, HANG_S, DETECTIONS)
        return records[0] if records and frame_in(records[0]) == frame_id else None

    def stop_waiting(self) -> None:
        """Give no answer to all that wait, and to all that will."""
        self._stopped = True
        for frames in list(self._waiting.values()):
            for frame in frames:
                frame.give(None)

    async def close(self) -> None:
        """Stop following."""
        self.stop_waiting()
        if self._completing is not None:
            self._completing.cancel()
        await self._detections.close()
        await self._letters.close()

    def _begin(self, offset: int) -> None:
        """Forget what was in the partition before, because it is another one now."""
        self._first = offset
        self._offsets.clear()
        self._complete = False

    async def _take_detections(self, records: Sequence[InRecord]) -> None:
        for record in records:
            frame_id = frame_in(record)
            if frame_id is not None:
                self._offsets.add(frame_id, record.offset)
                self._give(frame_id, record)

    async def _take_letters(self, records: Sequence[InRecord]) -> None:
        for record in records:
            devices = {frame.device_id for frames in self._waiting.values() for frame in frames}
            try:
                if header(record.headers, "ce_subject") not in devices:
                    continue
                letter = await _decoded(record, DeadLetter)
            except (EventError, EventVersionError) as error:
                logger.warning("a dead letter cannot be read: %s", error, extra={"offset": record.offset})
                continue
            # A job may have failed on a frame that is detected live at the same time.
            if letter.original.topic in (FRAMES_LIVE, FRAMES_BACKFILL) and letter.frame_id is not None:
                self._give(str(letter.frame_id), letter)

    def _give(self, frame_id: str, found: InRecord | DeadLetter) -> None:
        for frame in self._waiting.pop(frame_id, ()):
            frame.give(found)

    async def _read_tail(self) -> None:
        """Read from the end of the partition backwards what was there before it was followed."""
        async with asyncio.timeout(_LOOK_BACK_LIMIT_S):
            await self._detections.began.wait()
            end = self._first
            assert end is not None
            async with opened_reader(self._open_reader(), HANG_S) as reader:
                partition = self._source.partition
                bounds = await respond_within(reader.bounds(DETECTIONS, [partition]), HANG_S, DETECTIONS)
                within = bounds[partition][0], end
                earlier = await read_newest(
                    reader, self._source, within, self._offsets.missing, _frame_and_offset, batch=_BATCH
                )
        if self._first == end:
            self._offsets.add_earlier(earlier)
            self._complete = True


def _frame_and_offset(record: InRecord) -> tuple[str, int] | None:
    frame_id = frame_in(record)
    return None if frame_id is None else (frame_id, record.offset)


def _read_result(task: asyncio.Task[None]) -> None:
    """Read the error of a task that perhaps nobody waits for any more."""
    if not task.cancelled():
        task.exception()


async def _decoded(record: InRecord, kind: type[EventT]) -> EventT:
    """Return the event in ``record``. Raises EventError or EventVersionError."""
    if len(record.value or b"") <= _INLINE_BYTES:
        return decode(record.headers, record.value, kind)
    return await asyncio.to_thread(decode, record.headers, record.value, kind)
