"""The recent past of the topic, shared by all clients: encoded batches, numbered, bounded in events and bytes.

A client is a cursor into the ring instead of a queue of its own: nothing is done per client when an event arrives, and
clients at the same place are handed the very same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import compress

import orjson

from infra.broker.port import InRecord
from schemas.cloudevents import decode
from schemas.events import DetectionsMade
from sinks.sse.filters import FilterFields, StreamFilter
from sinks.sse.positions import Position, advanced, encode_position
from sinks.sse.wire import DETECTIONS_EVENT, event_bytes, one_line

MAX_RING_BYTES = 128 * 1024 * 1024
# Filtered views are cached for batches that live clients are still reading, and dropped behind them: with a view per
# distinct filter the whole ring would be many times its size.
_CACHED_BATCHES = 64


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One record on its way to the clients: its place, its JSON on one line, and what filters ask of it."""

    partition: int
    offset: int
    data: bytes
    facts: FilterFields

    @classmethod
    def read(cls, record: InRecord) -> StreamEvent:
        """The entry of a ``detections`` record.

        Raises EventError when the record is no such event, EventVersionError when it is one of a newer version.
        """
        event = decode(record.headers, record.value, DetectionsMade)
        return cls(record.partition, record.offset, one_line(record.value or b""), FilterFields.of(event))

    def view(self, wanted: StreamFilter) -> bytes | None:
        """The JSON that ``wanted`` lets through, or None for a frame it skips.

        Fields this version does not know stay in, since only the list of detections is cut.
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


@dataclass(frozen=True, slots=True)
class FilteredBatch:
    """A batch as one filter sees it: bytes ready to send, and how many events they hold."""

    data: bytes
    event_count: int


@dataclass(slots=True)
class RingBatch:
    """What arrived within one flush interval. ``start`` and ``end`` are the hub's positions before and after it.

    ``first_index`` numbers its first event among all events of this process. A ``notice`` stands for itself: it is
    sent to everybody, whatever they filter. ``restarts``: offsets before and after it cannot be compared. ``mark`` is
    the topic's, for the ids.
    """

    number: int
    first_index: int
    start: Position
    end: Position
    events: tuple[StreamEvent, ...]
    mark: str = ""
    notice: bytes = b""
    restarts: bool = False
    _views: dict[StreamFilter, FilteredBatch] = field(default_factory=dict)

    def view(self, wanted: StreamFilter, *, keep: bool) -> FilteredBatch:
        """All that ``wanted`` lets through, ready to send; with ``keep`` made once per distinct filter."""
        view = self._views.get(wanted)
        if view is None:
            events = self._events(wanted)
            view = FilteredBatch(self.notice + b"".join(events), len(events))
            if keep:
                self._views[wanted] = view
        return view

    def _events(self, wanted: StreamFilter) -> list[bytes]:
        position = self.start
        events = []
        for entry in self.events:
            position = advanced(position, entry.partition, entry.offset)
            data = entry.view(wanted)
            if data is not None:
                events.append(event_bytes(DETECTIONS_EVENT, data, encode_position(position, self.mark)))
        return events

    def drop_views(self) -> None:
        """Give the cached bytes back; they are made again when somebody asks."""
        self._views.clear()

    @property
    def size_bytes(self) -> int:
        """Bytes of event data, without cached views."""
        return sum(len(entry.data) for entry in self.events)


class Ring:
    """The last batches, oldest first. ``base`` is the position before the oldest, ``end`` the one after the newest."""

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
        """The number of the oldest batch still held (``next_number`` when there is none)."""
        return self._first

    @property
    def is_restart(self) -> bool:
        """Whether the oldest batch is the notice that offsets begin anew."""
        return self._first in self._batches and self._batches[self._first].restarts

    def add(
        self, entries: tuple[StreamEvent, ...], end: Position, notice: bytes = b"", *, restarts: bool = False
    ) -> RingBatch:
        """Append a batch that ends at ``end`` and drop the oldest ones beyond the bounds."""
        batch = RingBatch(self.next_number, self.total_events, self.end, end, entries, self.mark, notice, restarts)
        self._batches[batch.number] = batch
        self.next_number += 1
        self.total_events += len(entries)
        self._events += len(entries)
        self._bytes += batch.size_bytes
        self.end = end
        old = self._batches.get(batch.number - _CACHED_BATCHES)
        if old is not None:
            old.drop_views()
        while len(self._batches) > 1 and (self._events > self._max_events or self._bytes > self._max_bytes):
            self._drop_oldest()
        return batch

    def restart(self, position: Position, mark: str) -> None:
        """Forget everything and go on at ``position``: offsets before and after it cannot be compared."""
        self.mark = mark
        while self._batches:
            self._drop_oldest()
        self.base = self.end = position

    def batch(self, number: int) -> RingBatch:
        """The batch ``number``, which must lie between ``first_number`` and ``next_number``."""
        return self._batches[number]

    def view(self, number: int, wanted: StreamFilter) -> FilteredBatch:
        """Batch ``number`` as ``wanted`` sees it, the same object for all who follow live."""
        return self._batches[number].view(wanted, keep=number >= self.next_number - _CACHED_BATCHES)

    def lag(self, number: int) -> int:
        """How many events there are from batch ``number`` on."""
        return 0 if number >= self.next_number else self.total_events - self._batches[number].first_index

    def _drop_oldest(self) -> None:
        batch = self._batches.pop(self._first)
        self._first += 1
        self._events -= len(batch.events)
        self._bytes -= batch.size_bytes
        self.base = batch.end
