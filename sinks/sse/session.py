"""Sends one client its stream: from its position through the broker's history and the ring to new events.

Each event has the position after it as its id, so that a client can be cut off at any point and continue in any
process. A slow client that is ``client_queue_events`` behind is sent ``overflow`` and closed; its browser connects
again with its last id and reads on as fast as it can. No event is dropped without a message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from typing import Protocol

from infra.broker.port import Reader
from infra.errors import TransientError
from infra.failure.backoff import Backoff
from infra.process.direct_writes import WritePiece
from sinks.metrics import SSE_DROPPED, SSE_EVENTS
from sinks.settings import SseSettings
from sinks.sse.access.media_runs import FollowedMedia
from sinks.sse.filters import StreamFilter, shared_filter
from sinks.sse.history import HistoryPart, read_history
from sinks.sse.pictures.addresses import PictureAddresses
from sinks.sse.positions import (
    Origin,
    Position,
    PositionError,
    advanced,
    decode_position,
    encode_position,
    merged,
    origin_of,
    reaches,
)
from sinks.sse.ring import FilteredBatch, Ring, StreamEvent
from sinks.sse.wire import (
    DETECTIONS_EVENT,
    comment_bytes,
    event_bytes,
    gap_bytes,
    opening_bytes,
    overflow_bytes,
    position_bytes,
    reset_bytes,
)

logger = logging.getLogger(__name__)

STREAM = "detections"
Write = Callable[[bytes], Awaitable[None]]

_MAX_CHUNK_BYTES = 256 * 1024
# Filtering blocks the event loop of all clients; this many events take a few milliseconds.
_MAX_CHUNK_EVENTS = 256


class SessionHub(Protocol):
    """Gives a session the ring and the broker; :class:`sinks.sse.hub.DetectionHub` is the only implementation."""

    @property
    def settings(self) -> SseSettings:
        """The settings of the stream."""
        ...

    @property
    def closing(self) -> bool:
        """Whether all streams are to end."""
        ...

    @property
    def started(self) -> bool:
        """Whether ``ring`` and ``partitions`` are valid."""
        ...

    @property
    def ring(self) -> Ring:
        """The newest events of the topic."""
        ...

    @property
    def partitions(self) -> int:
        """How many partitions the topic has."""
        ...

    @property
    def grown_from(self) -> int | None:
        """How many partitions the topic had before it got more; None when it never did."""
        ...

    @property
    def pictures(self) -> PictureAddresses:
        """Makes the addresses of images in events."""
        ...

    def backoff(self) -> Backoff:
        """Return new delays for reads from the broker."""
        ...

    def history_reader(self) -> AbstractAsyncContextManager[Reader]:
        """Open a reader for one resuming client."""
        ...


class Session:
    """Follows the hub for one client; ``run`` ends when the hub closes or the client is too slow."""

    def __init__(
        self,
        hub: SessionHub,
        wanted: StreamFilter,
        last_event_id: str | None,
        write_piece: WritePiece | None = None,
        followed: FollowedMedia | None = None,
    ) -> None:
        """``write_piece`` writes to the client at once, where the server can do that.

        ``followed``: media whose runs that begin later are followed, too.
        """
        self._followed = followed
        self._runs_backoff = hub.backoff()
        self._hub = hub
        self._wanted = shared_filter(wanted)
        self._last_event_id = last_event_id
        self._write_piece = write_piece
        self._position: Position = ()
        # The mark of the topic that the position belongs to.
        self._mark = ""
        # The next batch to send; below the ring's first number, history must be read before.
        self._cursor = -1
        # Aligned: the client is exactly at the ring's position before the cursor, so shared bytes and ids are right. A
        # client from a different process may be ahead in some partitions, and gets its own ids until the ring is there.
        self._aligned = False
        self._live = False
        # Everything before the cursor is written, and the task waits for more.
        self._idle = False
        self._woken = asyncio.Event()
        self._heartbeat_due = False
        self._end_comment: str | None = None

    def end(self, comment: str) -> None:
        """End the stream after what is being written."""
        self._end_comment = comment
        self._woken.set()

    def wake(self, *, heartbeat: bool = False) -> None:
        """Continue: there is a batch, the hub closes, or a heartbeat is due (``heartbeat``)."""
        self._heartbeat_due = self._heartbeat_due or heartbeat
        self._woken.set()

    def send_newest(self) -> int | None:
        """Write the newest batch at once, without a turn of the task; return how many events that were.

        Returns None, and writes nothing, for a client that is not just before that batch, that has not taken what was
        written before, or that has something else due: then its task must be woken.
        """
        ring = self._hub.ring
        write = self._write_piece
        if (
            write is None
            or self._followed is not None
            or not self._idle
            or self._heartbeat_due
            or self._end_comment
            or self._cursor != ring.next_number - 1
        ):
            return None
        filtered = ring.filtered(self._cursor, self._wanted)
        if filtered.data and not write(filtered.piece):
            return None
        batch = ring.batch(self._cursor)
        self._position, self._mark = batch.end, batch.mark
        self._cursor += 1
        return filtered.event_count

    async def run(self, write: Write) -> None:
        """Write the stream until the hub closes, the client overflows, or :meth:`end` is called."""
        await write(opening_bytes())
        await self._follow(write)
        if self._end_comment is not None:
            await self._write_place(write, self._end_comment)

    async def _follow(self, write: Write) -> None:
        if not await self._enter_ring(write):
            return
        while self._end_comment is None:
            if self._cursor < self._ring.first_number:
                if not await self._catch_up(write):
                    return
                continue
            pending = self._ring.lag(self._cursor)
            if self._live and pending > self._hub.settings.client_queue_events:
                SSE_DROPPED.labels(STREAM).inc()
                await write(overflow_bytes(pending, self._event_id()))
                return
            before = await self._ready_before(write)
            if self._cursor < self._ring.first_number:
                continue
            chunk = self._take_batch_bytes(before)
            if chunk.data:
                self._heartbeat_due = False
                await write(chunk.data)
                SSE_EVENTS.labels(STREAM).inc(chunk.event_count)
            elif self._cursor < self._ring.next_number:
                # All events were filtered out: let other tasks run before the next ones.
                await asyncio.sleep(0)
            elif self._closing():
                await write(position_bytes(self._event_id(), "closing, connect again"))
                return
            else:
                self._live = True
                await self._heartbeat_pause(write)

    def _closing(self) -> bool:
        return self._hub.closing or self._end_comment is not None

    @property
    def _ring(self) -> Ring:
        return self._hub.ring

    async def _heartbeat_pause(self, write: Write) -> None:
        """Send a heartbeat with the position if one is due; otherwise wait until there is something to do."""
        if self._heartbeat_due:
            self._heartbeat_due = False
            await self._write_place(write, "heartbeat")
        else:
            # Only a client at the position of the ring gets the bytes that all get.
            self._idle = self._live and self._aligned
            try:
                await self._woken.wait()
            finally:
                self._idle = False
            self._woken.clear()

    async def _write_place(self, write: Write, comment: str) -> None:
        """Write a comment, with the client's position once it is known."""
        known = bool(self._position)
        await write(position_bytes(self._event_id(), comment) if known else comment_bytes(comment))

    async def _enter_ring(self, write: Write) -> bool:
        """Find the first batch to send; return False when the hub closed before it read the topic."""
        while not self._hub.started:
            if self._closing():
                return False
            await self._heartbeat_pause(write)
        if self._last_event_id is None:
            self._begin_live()
            await write(position_bytes(self._event_id(), "live"))
            return True
        try:
            self._position, self._mark = decode_position(self._last_event_id, self._hub.partitions, self._ring.mark)
        except PositionError as error:
            # A browser would connect with this id again and again, or never: it gets another one with this event.
            logger.info("a client cannot resume: %s", error)
            self._begin_live()
            await write(reset_bytes(str(error), self._event_id()))
            return True
        # A position ahead of this process may be from a faster process or a deleted topic: the broker decides.
        inside = reaches(self._position, self._ring.base) and reaches(self._ring.end, self._position)
        if inside and self._origin() != "former":
            self._cursor = self._ring.first_number
            return True
        return await self._catch_up(write)

    def _begin_live(self) -> None:
        """Continue with the next event."""
        self._position, self._mark = self._ring.end, self._ring.mark
        self._cursor = self._ring.next_number
        self._aligned = True

    async def _catch_up(self, write: Write) -> bool:
        """Send events that the ring no longer has, up to those it has; return False when the hub closed."""
        self._live = self._aligned = False
        backoff = self._hub.backoff()
        sent_restart = False
        while not self._closing():
            mark = self._ring.mark
            sent_restart = sent_restart or self._origin() == "former"
            try:
                async with self._hub.history_reader() as reader:
                    parts = read_history(
                        reader, self._position, self._history_end(), self._origin(), self._hub.pictures
                    )
                    async with aclosing(parts):
                        async for part in parts:
                            self._mark = mark
                            await self._send_history(part, write)
                            if self._closing():
                                return False
                if self._origin() != "former" and reaches(self._position, self._ring.base):
                    # The gap of a topic that was created again is sent once, so the ring's notice of it is skipped.
                    self._cursor = self._ring.first_number + (sent_restart and self._ring.is_restart)
                    return True
            except TransientError:
                # The hub's readers report this outage; the client only waits and keeps its position.
                await write(comment_bytes("waiting for the broker"))
                await asyncio.sleep(backoff.next_delay_s())
        return False

    def _event_id(self) -> str:
        return encode_position(self._position, self._mark)

    def _origin(self) -> Origin:
        return origin_of(self._mark, self._ring.mark)

    def _history_end(self) -> Callable[[], Position]:
        """Return the function for the position up to which history is read: the beginning of the ring.

        In a topic that got more partitions, earlier events of a device are in the former partitions. They must come
        before all events of the new ones, so the former partitions are read up to their present end.
        """
        former = self._ring.end[: self._hub.grown_from or 0]

        def end() -> Position:
            return merged(former, self._ring.base[: len(former)]) + self._ring.base[len(former) :]

        return end

    async def _send_history(self, part: HistoryPart, write: Write) -> None:
        await self._follow_runs_of(part.events)
        out = [text for event in part.events if (text := self._own_bytes(event)) is not None]
        if part.gaps:
            logger.info("a client resumed at events that the topic no longer has: %s", part.gaps)
            out.append(gap_bytes(part.gaps, encode_position(part.position, self._mark)))
        self._position = part.position
        if out:
            await write(b"".join(out))
            SSE_EVENTS.labels(STREAM).inc(len(out) - bool(part.gaps))

    def _own_bytes(self, event: StreamEvent) -> bytes | None:
        """Return ``event`` with an id for this client only, or None when the client has it or its filter drops it."""
        if event.offset < self._position[event.partition]:
            return None
        self._position = advanced(self._position, event.partition, event.offset)
        data = event.filtered_data(self._wanted)
        return None if data is None else event_bytes(DETECTIONS_EVENT, data, self._event_id())

    async def _ready_before(self, write: Write) -> int:
        """Return the number before which batches can be taken: it is known whose the runs in them are."""
        if self._followed is None:
            return self._ring.next_number
        before, events = self._cursor, list[StreamEvent]()
        while before < self._ring.next_number and len(events) < _MAX_CHUNK_EVENTS:
            events += self._ring.batch(before).events
            before += 1
        try:
            await self._follow_runs_of(events)
        except TransientError as error:
            # Other clients do not wait for the database.
            logger.warning("a client that follows media waits: %s", error)
            await write(comment_bytes("waiting for the database"))
            await asyncio.sleep(self._runs_backoff.next_delay_s())
            return self._cursor
        self._runs_backoff.reset()
        return before

    async def _follow_runs_of(self, events: Sequence[StreamEvent]) -> None:
        """Add the runs in ``events`` that are of the media that are followed. Raises a TransientError."""
        if self._followed is None:
            return
        jobs = {event.facts.job_id for event in events if event.facts.job_id is not None} - self._wanted.jobs
        if jobs and (found := await self._followed.runs_among(jobs)):
            self._wanted = shared_filter(replace(self._wanted, jobs=self._wanted.jobs | found))

    def _take_batch_bytes(self, before: int) -> FilteredBatch:
        """Move the cursor over batches up to ``before`` and return their events; of a single batch the shared bytes."""
        parts: list[FilteredBatch] = []
        size = seen = 0
        while self._cursor < before and size < _MAX_CHUNK_BYTES and seen < _MAX_CHUNK_EVENTS:
            seen += len(self._ring.batch(self._cursor).events)
            part = self._take_batch()
            self._cursor += 1
            if part.data:
                parts.append(part)
                size += len(part.data)
        if len(parts) == 1:
            return parts[0]
        return FilteredBatch(b"".join(part.data for part in parts), sum(part.event_count for part in parts))

    def _take_batch(self) -> FilteredBatch:
        batch = self._ring.batch(self._cursor)
        if self._aligned:
            self._position, self._mark = batch.end, batch.mark
            return self._ring.filtered(self._cursor, self._wanted)
        out: list[bytes] = []
        if not reaches(self._position, batch.end):
            out = [text for event in batch.events if (text := self._own_bytes(event)) is not None]
        self._position = batch.end if batch.restarts else merged(self._position, batch.end)
        self._mark = batch.mark
        self._aligned = self._position == batch.end
        return FilteredBatch(batch.notice + b"".join(out), len(out))
