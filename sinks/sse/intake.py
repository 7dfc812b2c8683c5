"""Adds the records that were read to the ring, batch by batch, and keeps the hub's positions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from infra.broker.port import InRecord, TopicState
from infra.errors import TopicMismatchError
from schemas.errors import EventVersionError
from schemas.topics import DETECTIONS
from sinks.settings import SseSettings
from sinks.sse.history import move_into_bounds, read_stream_event
from sinks.sse.pictures.addresses import PictureAddresses
from sinks.sse.positions import Position, advanced, encode_position, mark_of, origin_of
from sinks.sse.ring import Ring, StreamEvent
from sinks.sse.wire import Gap, gap_bytes

logger = logging.getLogger(__name__)


class StreamIntake:
    """Collects the records of all partitions and adds a batch to the ring from time to time.

    ``ring`` is valid once ``started``: every partition was read up to the end that it had at the start. ``wake`` is
    called when sessions have something new to send. In a topic that got more partitions, the former ones
    (``grown_from`` of them) are read first, because their events were published before those of the new ones.
    ``note`` is for health; None when there is none.
    """

    def __init__(
        self, settings: SseSettings, wake: Callable[[], None], grown_from: int | None, pictures: PictureAddresses
    ) -> None:
        self.ring = Ring((), settings.replay_events)
        self.started = False
        self.position: Position = ()
        self.note: str | None = None
        self._too_new = 0
        self._settings = settings
        self._wake = wake
        self._grown_from = grown_from
        self._pictures = pictures
        self._targets: Position = ()
        self._pending: list[StreamEvent] = []
        self._unfilled: set[int] = set()
        self._former_read = asyncio.Event()
        # A fraction of a client's limit per flush, so that many events at once do not make a reading client too slow.
        self._max_pending = max(1, settings.client_queue_events // 4)
        self._free = asyncio.Event()
        self._free.set()
        self._news = asyncio.Event()

    def begin(self, state: TopicState, bounds: Mapping[int, tuple[int, int]]) -> None:
        """Continue in the topic as it is now.

        The first time it begins some events before the end, to fill the ring. Later it continues at the position, or at
        the start when the topic was deleted and created again.
        """
        if not self.position:
            self._begin_first(mark_of(state.incarnation), bounds)
            return
        self.require_partitions(state.partitions)
        self.apply_bounds(mark_of(state.incarnation), bounds)

    def require_partitions(self, count: int) -> None:
        """Raise TopicMismatchError when the number of the topic's partitions changed to ``count``."""
        if count != len(self.position):
            raise TopicMismatchError(
                f"topic {DETECTIONS} had {len(self.position)} partitions and now has {count}; restart this process, "
                "its clients then continue at their positions"
            )

    def _begin_first(self, mark: str, bounds: Mapping[int, tuple[int, int]]) -> None:
        share = max(1, self._settings.replay_events // max(1, len(bounds)))
        self._targets = tuple(bounds[partition][1] for partition in range(len(bounds)))
        self.position = tuple(max(bounds[partition][0], end - share) for partition, end in enumerate(self._targets))
        self._unfilled = set(range(len(bounds)))
        self.ring = Ring(self.position, self._settings.replay_events, mark=mark)

    def apply_bounds(self, mark: str, bounds: Mapping[int, tuple[int, int]]) -> None:
        """Move the position into ``bounds`` of some or all partitions, and send the gaps to all clients."""
        origin = origin_of(self.ring.mark, mark)
        moved, gaps = move_into_bounds(self.position, bounds, origin)
        if origin != "former" and not gaps:
            return
        self.close_batch()
        restarts = origin == "former" or any(gap.reason != "retention" for gap in gaps)
        self.position = moved
        if restarts:
            self.ring.restart(moved, mark)
        if gaps:
            self._send_gaps(gaps, restarts)

    def _send_gaps(self, gaps: Sequence[Gap], restarts: bool) -> None:
        logger.error("the topic no longer has events that were not sent to clients: %s", gaps)
        notice = gap_bytes(gaps, encode_position(self.position, self.ring.mark))
        self.ring.add((), self.position, notice, restarts=restarts)
        self._wake()

    async def wait_until_readable(self, partition: int) -> None:
        """Wait until ``partition`` may be read; only partitions that were added to the topic have to wait."""
        self._mark_filled(partition, silent=False)
        if self._grown_from is not None and partition >= self._grown_from:
            await self._former_read.wait()

    async def add_records(self, partition: int, records: Sequence[InRecord]) -> None:
        """Add the next records of ``partition`` (none: its end was reached), as soon as there is space."""
        # Other tasks may have used the space before this one continued.
        while not self._free.is_set():
            await self._free.wait()
        for record in records:
            event = read_stream_event(record, self._pictures, self._count_skipped)
            if event is not None:
                self._pending.append(event)
            self.position = advanced(self.position, partition, record.offset)
        if records:
            self._news.set()
        else:
            self._mark_filled(partition, silent=True)
        if len(self._pending) >= self._max_pending:
            self._free.clear()

    def _count_skipped(self, error: EventVersionError) -> None:
        self._too_new += 1
        self.note = f"{self._too_new} events were skipped, which only a newer program can read; the last: {error}"

    def _mark_filled(self, partition: int, *, silent: bool) -> None:
        """Note that ``partition`` was read up to its end at the start; after the last one clients can start.

        ``silent``: a read had no records. A partition that ends in transaction markers is never read to its end.
        """
        if partition in self._unfilled and (silent or self.position[partition] >= self._targets[partition]):
            self._unfilled.discard(partition)
        if all(number >= (self._grown_from or 0) for number in self._unfilled):
            self._former_read.set()
        if not self._unfilled and not self.started:
            self.close_batch()
            self.started = True
            self._wake()

    async def flush(self) -> None:
        """Add pending events to the ring: the first one at once, further ones together, once per interval."""
        while True:
            await self._news.wait()
            self._news.clear()
            self.close_batch()
            await asyncio.sleep(self._settings.flush_interval_s)

    def close_batch(self) -> None:
        """Add the pending events to the ring."""
        if self.position != self.ring.end:
            self.ring.add(tuple(self._pending), self.position)
            self._pending.clear()
            self._wake()
        self._free.set()
