"""Examines and stores frames of one connection at the same time, and publishes them in the order of their numbers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile

from infra.http_api.errors.texts import ErrorText
from infra.http_api.limits.slots import Slot
from infra.telemetry.sampled_log import SampledLog
from ingest.acceptance.acceptance import Acceptance, PreparedFrame, require_device
from ingest.acceptance.error_texts import describe_frame_error
from ingest.acceptance.fields import parse_fields
from ingest.metrics import FRAMES_REJECTED
from ingest.settings import GatewaySettings
from ingest.stream.closing import CloseCode, StreamEnd
from ingest.stream.memory import FrameMemory
from ingest.stream.metrics import ANSWER_TIME, FRAMES
from ingest.stream.recent_frames import RecentFrames
from ingest.stream.sessions import Session
from ingest.stream.wire import (
    FrameMessage,
    acknowledgement,
    later,
    max_fields_bytes,
    pairs_of,
    read_frame,
    refusal,
)
from schemas.errors import StandgaleError
from schemas.topics import FRAMES_LIVE

logger = logging.getLogger(__name__)

_DEFAULT_RETRY_S = 2.0
_LATER = (429, 503)


@dataclass(eq=False, slots=True)
class _Frame:
    """Is a frame that was received, on its way to its answer."""

    sequence: int
    size_bytes: int
    received_at: float
    prepared: PreparedFrame | None = None
    error: Exception | None = None
    topic: str = FRAMES_LIVE
    may_be_published: bool = False
    """The client says so"""

    @property
    def is_examined(self) -> bool:
        """Whether it is stored, or failed."""
        return self.prepared is not None or self.error is not None


class FramePipeline:
    """Takes frames in the order of their numbers, and answers them in the same order.

    A frame that fails for itself is refused, and the next ones go on. When store or broker fail, the frame gets
    ``later``, and all after it are discarded until it comes again; so nothing is published before what it follows.
    """

    def __init__(
        self,
        acceptance: Acceptance,
        settings: GatewaySettings,
        recent: RecentFrames,
        device_id: str,
        memory: FrameMemory,
        send: Callable[[str], Awaitable[None]],
    ) -> None:
        self._acceptance = acceptance
        self._settings = settings
        self._recent = recent
        self._device_id = device_id
        self._memory = memory
        self._send = send
        self._frames: deque[_Frame] = deque()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: Session | None = None
        self._expected = 0
        self._is_repeating = self._is_finished = False
        self._by_digest = asyncio.Lock()
        self._log = SampledLog(logger)

    @property
    def is_idle(self) -> bool:
        """Whether no frame waits for its answer."""
        return not self._frames

    def begin(self, session: Session) -> None:
        """Expect the frames of ``session`` from its next one on."""
        self._session = session
        self._expected = session.next

    def take(self, message: bytes, slot: Slot, failure: Exception | None = None) -> None:
        """Begin with a frame; its memory is given back as soon as it is stored. Raises StreamEnd.

        ``failure`` is given when it cannot be taken now, whatever is in it.
        """
        try:
            frame = read_frame(message)
            if not self._is_next(frame.sequence):
                FRAMES.labels("discarded").inc()
                self._memory.free(slot)
                self._memory.answered(len(message))
                return
        except StreamEnd:
            self._memory.free(slot)
            raise
        self._expected += 1
        self._is_repeating = False
        entry = _Frame(frame.sequence, len(message), time.monotonic(), error=failure)
        self._frames.append(entry)
        if failure is not None:
            self._memory.free(slot)
            self._changed.set()
            return
        task = asyncio.create_task(self._prepare(entry, frame, slot), name="stream-frame")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _is_next(self, sequence: int) -> bool:
        """Return False for a frame that the client sent before it knew that an earlier one is to be sent again."""
        if sequence == self._expected:
            return True
        if sequence > self._expected and self._is_repeating:
            return False
        raise StreamEnd(CloseCode.BAD_MESSAGE, f"frame {sequence} was sent where {self._expected} must follow")

    async def _prepare(self, entry: _Frame, frame: FrameMessage, slot: Slot) -> None:
        try:
            pairs = pairs_of(frame.fields, max_fields_bytes(self._settings))
            fields = parse_fields(pairs, self._settings.max_metadata_bytes)
            require_device(fields, self._device_id)
            entry.topic = fields.topic or FRAMES_LIVE
            entry.may_be_published = fields.repeated
            self._acceptance.require_room(self._device_id, entry.topic)
            if frame.image:
                entry.prepared = await self._acceptance.prepare(self._device_id, frame.image, fields)
            else:
                # It may name an image by its digest, which is read from the store: one at a time.
                async with self._by_digest:
                    with self._memory.stored_image():
                        entry.prepared = await self._acceptance.prepare(self._device_id, b"", fields)
        except Exception as error:  # noqa: BLE001 (it is the frame's answer, and is logged if nobody expected it)
            entry.error = error
            if not isinstance(error, StandgaleError | OSError):
                self._log_unexpected(error)
        finally:
            self._memory.free(slot)
            self._changed.set()

    def finish(self) -> None:
        """Let :meth:`run` return when all frames are answered."""
        self._is_finished = True
        self._changed.set()

    async def run(self) -> None:
        """Answer frames until :meth:`finish` is called and none is left."""
        while frames := await self._next_frames():
            await self._answer(frames)

    def cancel(self) -> None:
        """Give up what is being stored: the time of the process to stop is over."""
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Wait for frames that were discarded while they were being stored."""
        self._memory.close()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _next_frames(self) -> list[_Frame]:
        """Return the frames that can be published now; none when all work is done."""
        while True:
            ready = list(takewhile(lambda frame: frame.is_examined, self._frames))
            if ready or (self._is_finished and not self._frames):
                return ready
            self._changed.clear()
            await self._changed.wait()

    async def _answer(self, frames: Sequence[_Frame]) -> None:
        """Answer ``frames`` in order, until one is to be sent again."""
        at = 0
        while at < len(frames):
            first = frames[at]
            if first.error is not None:
                if not await self._answer_failed(first, first.error):
                    return
                at += 1
                continue
            together = list(
                takewhile(lambda frame: frame.error is None and frame.topic == first.topic, frames[at:])  # noqa: B023
            )
            try:
                await self._publish(together)
            except Exception as error:  # noqa: BLE001 (each frame gets an answer that says it)
                if not await self._answer_unpublished(together, error):
                    return
            else:
                for frame in together:
                    await self._acknowledge(frame)
            at += len(together)

    async def _answer_failed(self, frame: _Frame, error: Exception) -> bool:
        """Refuse the frame, or have it sent again: then return False."""
        text = describe_frame_error(error, _reference(frame))
        if text.status in _LATER:
            await self._repeat_from(frame, text)
            return False
        FRAMES_REJECTED.labels(text.code).inc()
        FRAMES.labels("refused").inc()
        await self._give(frame, refusal(frame.sequence, text))
        return True

    async def _answer_unpublished(self, frames: Sequence[_Frame], error: Exception) -> bool:
        """Refuse what the broker never takes, and have the rest sent again: then return False.

        Some of ``frames`` may be in the topic nevertheless; that is looked up before more is published.
        """
        assert self._session is not None
        self._session.unsure = True
        if isinstance(error, StandgaleError) and describe_frame_error(error, "").status not in _LATER:
            if len(frames) == 1:
                return await self._answer_failed(frames[0], error)
            for frame in frames:
                try:
                    await self._publish([frame])
                except Exception as alone:  # noqa: BLE001 (as above)
                    if not await self._answer_unpublished([frame], alone):
                        return False
                else:
                    await self._acknowledge(frame)
            return True
        if not isinstance(error, StandgaleError | OSError):
            self._log_unexpected(error)
        await self._repeat_from(frames[0], describe_frame_error(error, _reference(frames[0])))
        return False

    async def _publish(self, frames: Sequence[_Frame]) -> None:
        """Publish ``frames`` without those that are in the topic already."""
        session = self._session
        assert session is not None
        first = frames[0]
        if session.unsure or any(frame.may_be_published for frame in frames):
            await self._recent.read(self._device_id)
        if session.unsure:
            session.unsure = False
            window = session.answers.maxlen or 0
            session.repeated_below = max(session.repeated_below, first.sequence + window)
        events = [
            frame.prepared.event
            for frame in frames
            if frame.prepared is not None
            and not (
                (frame.sequence < session.repeated_below or frame.may_be_published)
                and self._recent.has(self._device_id, str(frame.prepared.event.frame_id))
            )
        ]
        if len(events) < len(frames):
            FRAMES.labels("repeated").inc(len(frames) - len(events))
        await self._acceptance.publish(events, first.topic)

    async def _acknowledge(self, frame: _Frame) -> None:
        assert frame.prepared is not None
        FRAMES.labels("acknowledged").inc()
        ANSWER_TIME.observe(time.monotonic() - frame.received_at)
        await self._give(frame, acknowledgement(frame.sequence, frame.prepared.event, frame.prepared.warnings))

    async def _give(self, frame: _Frame, answer: str) -> None:
        """Remember and send the answer to the first frame."""
        assert self._session is not None and self._frames[0] is frame
        self._frames.popleft()
        self._memory.answered(frame.size_bytes)
        self._session.answer(frame.sequence, answer)
        await self._send_if_connected(answer)

    async def _repeat_from(self, frame: _Frame, text: ErrorText) -> None:
        """Discard ``frame`` and all after it, and ask the client to send them again."""
        FRAMES.labels("later").inc()
        for discarded in self._frames:
            self._memory.answered(discarded.size_bytes)
        self._frames.clear()
        self._expected, self._is_repeating = frame.sequence, True
        wait_s = float((text.headers or {}).get("Retry-After", _DEFAULT_RETRY_S))
        await self._send_if_connected(later(frame.sequence, text, wait_s))

    async def _send_if_connected(self, text: str) -> None:
        # A client that is gone asks for the answer when it resumes.
        with suppress(OSError):
            await self._send(text)

    def _log_unexpected(self, error: Exception) -> None:
        kind = type(error).__name__
        self._log.log(logging.ERROR, kind, "a frame failed because of an error in the gateway", error=error)


def _reference(frame: _Frame) -> str:
    return f"(frame {frame.sequence} of this session)"
