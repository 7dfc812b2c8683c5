"""Reserves memory for the frames of one connection, in the memory that all uploads of the gateway share."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from infra.http_api.errors.api_errors import OverloadedError
from infra.http_api.limits.slots import Slot, UploadSlots
from infra.process.websocket_flow import MessageFlow
from ingest.stream.closing import CloseCode
from ingest.stream.wire import Window


class FrameMemory:
    """Is the gate of one connection: a frame is received only when there is memory for it.

    Credits tell the client how much it may send, so that nothing of it waits; they shrink while other devices send. A
    client that ignores them waits, unread, and is closed when it exceeds the largest window there is.
    """

    def __init__(self, slots: UploadSlots, device_id: str, window: Window, max_bytes: int, flow: MessageFlow) -> None:
        self._slots = slots
        self._device_id = device_id
        self._window = Window(window.frames, max(window.bytes, max_bytes))
        self._max_bytes = max_bytes
        self._flow = flow
        self._arriving: deque[Slot] = deque()
        self._arriving_bytes: deque[int] = deque()
        self._held: set[Slot] = set()
        self.unanswered = Window(0, 0)
        """What was received and has no answer yet"""

    def window(self, connections: int) -> Window:
        """Return how much the client may have sent without an answer, when the device has so many connections."""
        frames, size = self._slots.share(self._device_id)
        return Window(
            max(1, min(self._window.frames, frames // connections)),
            max(self._max_bytes, min(self._window.bytes, size // connections)),
        )

    def begin(self, size_bytes: int | None) -> bool:
        """Reserve memory for a frame whose first bytes have come; False: not now."""
        frames = self.unanswered.frames + len(self._arriving) + 1
        # Of a message in several pieces the size is not known yet.
        size = self.unanswered.bytes + sum(self._arriving_bytes) + (size_bytes or 0)
        if frames > self._window.frames or (size > self._window.bytes and frames > 1):
            self._flow.fail(
                CloseCode.TOO_MANY,
                f"credits exceeded: {frames} frames, {size} bytes without an answer (at most {self._window.frames}, "
                f"{self._window.bytes})",
            )
            return False
        try:
            slot = self._slots.take(self._max_bytes if size_bytes is None else size_bytes, self._device_id)
        except OverloadedError:
            return False
        slot.on_taken_away = lambda: self._flow.fail(CloseCode.BUSY, "made room for another device; connect again")
        self._arriving.append(slot)
        self._arriving_bytes.append(size_bytes or 0)
        return True

    def arrived(self, size_bytes: int) -> Slot | None:
        """Return the place of the frame that was received, or None if it was sent before there were credits."""
        if not self._arriving:
            return None
        slot = self._arriving.popleft()
        self._arriving_bytes.popleft()
        slot.on_taken_away = None
        self._slots.shrink(slot, size_bytes)
        self._held.add(slot)
        self.unanswered = Window(self.unanswered.frames + 1, self.unanswered.bytes + size_bytes)
        return slot

    @contextmanager
    def stored_image(self) -> Iterator[None]:
        """Reserve memory for an image that is read from the store. Raises OverloadedError."""
        with self._slots.reserve(self._max_bytes, self._device_id):
            yield

    def answered(self, size_bytes: int) -> None:
        """Count a frame that has an answer, or is to be sent again."""
        self.unanswered = Window(self.unanswered.frames - 1, self.unanswered.bytes - size_bytes)

    def free(self, slot: Slot) -> None:
        """Give the memory of one frame back."""
        self._held.discard(slot)
        self._slots.give_back(slot)

    def close(self) -> None:
        """Give back what frames have that will not be complete any more."""
        while self._arriving:
            self._slots.give_back(self._arriving.popleft())
