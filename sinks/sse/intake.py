"""Where the hub is in the topic: takes what was read and fills the ring, batch by batch."""

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
from sinks.sse.positions import Position, advanced, encode_position, mark_of, origin_of
from sinks.sse.ring import Ring, StreamEvent
from sinks.sse.wire import Gap, gap_bytes

logger = logging.getLogger(__name__)


class StreamIntake:
    """Takes the records of all partitions and closes a batch of the ring from time to time.

    ``ring`` is valid once ``started``: every partition was read up to where its end was at the start. ``wake`` is
    called whenever sessions have something new to look at. In a group that has grown, the partitions that were there
    before (``grown_from`` of them) are read first: what they hold was published before anything in the new ones.
    ``note`` is what there is to say in health, None when nothing.
    """

    def __init__(self, settings: SseSettings, wake: Callable[[], None], grown_from: int | None) -> None:
        self.ring = Ring((), settings.replay_events)
        self.started = False
        self.position: Position = ()
        self.note: str | None = None
        self._too_new = 0
        self._settings = settings
        self._wake = wake
        self._grown_from = grown_from
        self._targets: Position = ()
        self._pending: list[StreamEvent] = []
        self._unfilled: set[int] = set()
        self._former_read = asyncio.Event()
        # A fraction of a client's queue per flush: a burst on the topic never makes a client that reads look slow.
        self._max_pending = max(1, settings.client_queue_events // 4)
        self._free = asyncio.Event()
        self._free.set()
        self._news = asyncio.Event()

    def begin(self, state: TopicState, bounds: Mapping[int, tuple[int, int]]) -> None:
        """Go on in the topic as it is now.

        The first time: some way before its end, to fill the ring. Later: where the position is, or from its start when
        the topic was made again.
        """
        if not self.position:
            self._begin_first(mark_of(state.incarnation), bounds)
            return
        self.require_partitions(state.partitions)
        self.apply_bounds(mark_of(state.incarnation), bounds)

    def require_partitions(self, count: int) -> None:
        """Raise TopicMismatchError when ``count``, the topic's partitions now, is not what it was."""
        if count != len(self.position):
            raise TopicMismatchError(
                f"topic {DETECTIONS} had {len(self.position)} partitions and now has {count}; restart this process, "
                "its clients go on where they are"
            )

    def _begin_first(self, mark: str, bounds: Mapping[int, tuple[int, int]]) -> None:
        share = max(1, self._settings.replay_events // max(1, len(bounds)))
        self._targets = tuple(bounds[partition][1] for partition in range(len(bounds)))
        self.position = tuple(max(bounds[partition][0], end - share) for partition, end in enumerate(self._targets))
        self._unfilled = set(range(len(bounds)))
        self.ring = Ring(self.position, self._settings.replay_events, mark=mark)

    def apply_bounds(self, mark: str, bounds: Mapping[int, tuple[int, int]]) -> None:
        """Move the position into ``bounds``, of some or all partitions, and tell all clients what that skips."""
        origin = origin_of(self.ring.mark, mark)
        settled, losses = move_into_bounds(self.position, bounds, origin)
        if origin != "former" and not losses:
            return
        self.close_batch()
        restarts = origin == "former" or any(loss.reason != "retention" for loss in losses)
        self.position = settled
        if restarts:
            self.ring.restart(settled, mark)
        if losses:
            self._send_gaps(losses, restarts)

    def _send_gaps(self, losses: Sequence[Gap], restarts: bool) -> None:
        logger.error("the topic no longer holds what was not yet sent to clients: %s", losses)
        notice = gap_bytes(losses, encode_position(self.position, self.ring.mark))
        self.ring.add((), self.position, notice, restarts=restarts)
        self._wake()

    async def wait_until_readable(self, partition: int) -> None:
        """Wait until ``partition`` may be read: at once, but for new partitions of a group that has grown."""
        self._mark_filled(partition, silent=False)
        if self._grown_from is not None and partition >= self._grown_from:
            await self._former_read.wait()

    async def add_records(self, partition: int, records: Sequence[InRecord]) -> None:
        """Take what was read next of ``partition`` (nothing: there was no more), as soon as there is room."""
        # Others may have used up the room while this one was woken.
        while not self._free.is_set():
            await self._free.wait()
        for record in records:
            entry = read_stream_event(record, self._count_skipped)
            if entry is not None:
                self._pending.append(entry)
            self.position = advanced(self.position, partition, record.offset)
        if records:
            self._news.set()
        else:
            self._mark_filled(partition, silent=True)
        if len(self._pending) >= self._max_pending:
            self._free.clear()

    def _count_skipped(self, error: EventVersionError) -> None:
        self._too_new += 1
        self.note = f"{self._too_new} events were passed over, being too new for this program; the last: {error}"

    def _mark_filled(self, partition: int, *, silent: bool) -> None:
        """Note that ``partition`` is read up to where its end was at the start; with the last one clients may join.

        ``silent``: nothing came. What ends in transaction markers is never read up to its end.
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
        """Hand out what has arrived: the first event at once, further ones together, once per interval."""
        while True:
            await self._news.wait()
            self._news.clear()
            self.close_batch()
            await asyncio.sleep(self._settings.flush_interval_s)

    def close_batch(self) -> None:
        """Hand out what has arrived so far."""
        if self.position != self.ring.end:
            self.ring.add(tuple(self._pending), self.position)
            self._pending.clear()
            self._wake()
        self._free.set()
