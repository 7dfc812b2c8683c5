"""Keeps the newest events for all clients as encoded, numbered batches, within a limit of events and bytes.

A client has a position in the ring instead of a queue, so that a new event needs no work per client, and clients at
the same position are sent the same bytes object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import compress

import orjson

from infra.broker.port import InRecord
from infra.process.direct_writes import framed_piece
from schemas.cloudevents import decode
from schemas.events import DetectionsMade
from sinks.sse.filters import FilterFields, StreamFilter
from sinks.sse.pictures.addresses import PictureAddresses
from sinks.sse.positions import Position, advanced, encode_position
from sinks.sse.wire import DETECTIONS_EVENT, event_bytes, one_line

MAX_RING_BYTES = 128 * 1024 * 1024
# Filtered batches are cached while live clients read them, and dropped afterwards: with one per filter for all batches
# the ring would have many times its size.
_CACHED_BATCHES = 64


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """Holds one record for the clients: its position, its JSON in one line, and the fields that filters need."""

    partition: int
    offset: int
    data: bytes
    facts: FilterFields

    @classmethod
    def read(cls, record: InRecord, pictures: PictureAddresses) -> StreamEvent:
        """Read a record of the topic ``detections``; the address of its image becomes one that clients may fetch.

        Raises EventError when it is not such an event, EventVersionError when it is of a newer version.
        """
        event = decode(record.headers, record.value, DetectionsMade)
        data = one_line(pictures.put_into(record.value or b"", event.image))
        return cls(record.partition, record.offset, data, FilterFields.of(event))

    def filtered_data(self, wanted: StreamFilter) -> bytes | None:
        """Return the JSON after ``wanted`` is applied, or None for a frame that it drops.

        Fields that this version does not know are kept, because only the list of detections is changed.
        """
        if not wanted.takes_frame(self.facts):
            return None
        if not wanted.of_detections:
            return self.data
        kept = [wanted.keeps(label, confidence) for label, confidence in self.facts.found]
        if not any(kept):
            return None
        if all(kept):
            return self.data
        document = orjson.loads(self.data)
        document["detections"] = list(compress(document["detections"], kept))
        return orjson.dumps(document)


@dataclass(slots=True)
class FilteredBatch:
    """Holds a batch after a filter: bytes ready to send, and the number of events in them."""

    data: bytes
    event_count: int
    _piece: bytes | None = None

    @property
    def piece(self) -> bytes:
        """The bytes as a piece of a response, made once for all clients; see :mod:`infra.process.direct_writes`."""
        if self._piece is None:
            self._piece = framed_piece(self.data)
        return self._piece


@dataclass(slots=True)
class RingBatch:
    """Holds the events of one flush interval."""

    number: int
    first_index: int
    """The number of its first event among all events of this process"""
    start: Position
    """The hub's position before it"""
    end: Position
    """The hub's position after it"""
    events: tuple[StreamEvent, ...]
    mark: str = ""
    """The topic's mark, for the ids"""
    notice: bytes = b""
    """Bytes for all clients, with any filter"""
    restarts: bool = False
    """Whether offsets before and after it cannot be compared"""
    _filtered: dict[StreamFilter, FilteredBatch] = field(default_factory=dict)

    def filtered(self, wanted: StreamFilter, *, keep: bool) -> FilteredBatch:
        """Return the batch after ``wanted`` is applied, ready to send; with ``keep`` it is made once per filter."""
        filtered = self._filtered.get(wanted)
        if filtered is None:
            events = self._events(wanted)
            filtered = FilteredBatch(self.notice + b"".join(events), len(events))
            if keep:
                self._filtered[wanted] = filtered
        return filtered

    def _events(self, wanted: StreamFilter) -> list[bytes]:
        position = self.start
        events = []
        for event in self.events:
            position = advanced(position, event.partition, event.offset)
            data = event.filtered_data(wanted)
            if data is not None:
                events.append(event_bytes(DETECTIONS_EVENT, data, encode_position(position, self.mark)))
        return events

    def drop_filtered(self) -> None:
        """Drop the cached bytes; they are made again when a client needs them."""
        self._filtered.clear()

    @property
    def size_bytes(self) -> int:
        """Bytes of event data, without cached filtered batches."""
        return sum(len(event.data) for event in self.events)


class Ring:
    """Keeps the last batches; ``base`` is the position before the oldest, ``end`` the one after the newest."""

    def __init__(self, base: Position, max_events: int, max_bytes: int = MAX_RING_BYTES, mark: str = "") -> None:
        self.mark = mark
        self.base = base
        self.end = base
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._batches: dict[int, RingBatch] = {}
        self._first = 0
        self.next_number = 0
        self._events = 0
        self._bytes = 0
        self.total_events = 0

    @property
    def first_number(self) -> int:
        """The number of the oldest batch (``next_number`` when there is none)."""
        return self._first

    @property
    def is_restart(self) -> bool:
        """Whether the oldest batch is the notice that offsets begin again."""
        return self._first in self._batches and self._batches[self._first].restarts

    def add(
        self, events: tuple[StreamEvent, ...], end: Position, notice: bytes = b"", *, restarts: bool = False
    ) -> RingBatch:
        """Append a batch that ends at ``end``, and drop the oldest ones beyond the limits."""
        batch = RingBatch(self.next_number, self.total_events, self.end, end, events, self.mark, notice, restarts)
        self._batches[batch.number] = batch
        self.next_number += 1
        self.total_events += len(events)
        self._events += len(events)
        self._bytes += batch.size_bytes
        self.end = end
        old = self._batches.get(batch.number - _CACHED_BATCHES)
        if old is not None:
            old.drop_filtered()
        while len(self._batches) > 1 and (self._events > self._max_events or self._bytes > self._max_bytes):
            self._drop_oldest()
        return batch

    def restart(self, position: Position, mark: str) -> None:
        """Drop all batches and continue at ``position``; offsets before and after it cannot be compared."""
        self.mark = mark
        while self._batches:
            self._drop_oldest()
        self.base = self.end = position

    def batch(self, number: int) -> RingBatch:
        """Return the batch ``number``, from ``first_number`` up to ``next_number`` - 1."""
        return self._batches[number]

    def filtered(self, number: int, wanted: StreamFilter) -> FilteredBatch:
        """Return batch ``number`` after ``wanted`` is applied; all live clients get the same object."""
        return self._batches[number].filtered(wanted, keep=number >= self.next_number - _CACHED_BATCHES)

    def lag(self, number: int) -> int:
        """Return how many events there are from batch ``number`` on."""
        return 0 if number >= self.next_number else self.total_events - self._batches[number].first_index

    def _drop_oldest(self) -> None:
        batch = self._batches.pop(self._first)
        self._first += 1
        self._events -= len(batch.events)
        self._bytes -= batch.size_bytes
        self.base = batch.end
