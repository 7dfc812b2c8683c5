"""Reads a camera's packets in a thread of its own, and keeps a limited part of the stream until it is decoded.

A camera does not wait. So its packets are taken as they come, also while decoding or acceptance is slow; what is
older than the limit is left out up to the next key frame, because frames in between could not be decoded.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class StreamPacket(Protocol):
    """Is what the queue asks of a packet."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def stream_index(self) -> int:
        """The number of its stream."""
        ...

    @property
    def is_keyframe(self) -> bool:
        """Whether decoding may begin with it."""
        ...


@dataclass(slots=True)
class Arrived:
    """Is a packet, and when it was read here."""

    packet: StreamPacket
    arrived_at: datetime
    arrived_s: float
    """Monotonic"""
    is_after_gap: bool = False
    """Whether packets before it were left out"""


@dataclass(frozen=True, slots=True)
class LagLimits:
    """Says how much of a stream is kept."""

    seconds: float
    size_bytes: int


class PacketQueue:
    """Keeps the packets of one connection; one thread writes, one reads."""

    def __init__(
        self,
        packets: Callable[[], Iterator[StreamPacket]],
        stream_index: int,
        limits: LagLimits,
        on_skip: Callable[[int], None],
        *,
        now: Callable[[], datetime],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read ``packets`` in the thread; ``on_skip`` is called there with the number of frames that were left out.

        ``stream_index`` is the stream of the pictures; the other streams' packets are left out together with theirs.
        """
        self._packets = packets
        self._stream_index = stream_index
        self._limits = limits
        self._on_skip = on_skip
        self._now = now
        self._steady = steady
        self._waiting: deque[Arrived] = deque()
        self._size_bytes = 0
        self._skips_since: float | None = None
        self._changed = threading.Condition()
        self._has_ended = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="video-packets", daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the thread has ended; its input is to be closed before."""
        with self._changed:
            self._has_ended = True
        self._thread.join()

    def __iter__(self) -> Iterator[Arrived]:
        """Yield the packets, the oldest first; raises the error that ended the reading, after the last one."""
        while True:
            with self._changed:
                while not self._waiting and not self._has_ended:
                    self._changed.wait()
                if not self._waiting:
                    break
                first = self._waiting.popleft()
                self._size_bytes -= first.packet.size
            yield first
        if self._error is not None:
            raise self._error

    def put_back(self, taken: Sequence[Arrived]) -> None:
        """Take back what was read first, in its order, so that it is kept and left out like the others."""
        with self._changed:
            self._waiting.extendleft(reversed(taken))
            self._size_bytes += sum(each.packet.size for each in taken)

    def lag_s(self) -> float:
        """Return how old the oldest packet is that waits."""
        with self._changed:
            return self._steady() - self._waiting[0].arrived_s if self._waiting else 0.0

    def _run(self) -> None:
        error: Exception | None = None
        packets = self._packets()
        try:
            for packet in packets:
                self.put(packet)
                if self._has_ended:
                    break
        except Exception as raised:  # noqa: BLE001 (raised again where the packets are read)
            error = raised
        with self._changed:
            self._error = error
            self._has_ended = True
            self._changed.notify_all()

    def put(self, packet: StreamPacket) -> None:
        """Add ``packet``, and leave out what is older or more than the limits allow."""
        arrived = Arrived(packet, self._now(), self._steady())
        with self._changed:
            skipped = self._add(arrived)
            self._changed.notify_all()
        if skipped:
            self._on_skip(skipped)

    def _add(self, arrived: Arrived) -> int:
        if self._skips_since is not None:
            # Some cameras send no key frames at all.
            is_over = arrived.arrived_s - self._skips_since > self._limits.seconds
            if not (self._is_begin(arrived) or (is_over and self._is_picture(arrived))):
                return int(self._is_picture(arrived))
            self._skips_since = None
            arrived.is_after_gap = True
        self._waiting.append(arrived)
        self._size_bytes += arrived.packet.size
        skipped = 0
        while self._waiting and self._is_over(arrived.arrived_s):
            skipped += self._drop_first_group()
        if not self._waiting and skipped:
            self._skips_since = arrived.arrived_s
        return skipped

    def _is_over(self, now_s: float) -> bool:
        return self._size_bytes > self._limits.size_bytes or now_s - self._waiting[0].arrived_s > self._limits.seconds

    def _drop_first_group(self) -> int:
        """Leave out the oldest packet and those that need it; return how many frames they are."""
        dropped = 0
        while self._waiting:
            first = self._waiting.popleft()
            self._size_bytes -= first.packet.size
            dropped += self._is_picture(first)
            if self._waiting and self._is_begin(self._waiting[0]):
                self._waiting[0].is_after_gap = True
                break
        return dropped

    def _is_picture(self, arrived: Arrived) -> bool:
        return arrived.packet.stream_index == self._stream_index and arrived.packet.size > 0

    def _is_begin(self, arrived: Arrived) -> bool:
        return self._is_picture(arrived) and arrived.packet.is_keyframe
