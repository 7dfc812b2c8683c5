"""Keeps the newest detections events of a partition, so that a frame that is twice in a topic is processed once.

A device that never saw its 202 sends the frame again, and the same ``frame.captured`` is in the topic twice. The id of
the detections event is computed from frame, job and model version (:func:`schemas.ids.detections_event_id`), so it is
known before any work is done. It is also the ``ce_id`` header of the event in ``detections``, so rebuilding the window
needs headers only.

The id depends on the model version. A job, or a replay of old frames, may ask a new version for what another version
has detected already. But a live frame must not be processed twice because a roll-out came between it and its duplicate.
So an event that belongs to no job is also known by its frame (``ce_subject``), whichever version produced it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from infra.broker.partitioning import partition_for
from infra.broker.port import InRecord, Reader, TopicPartition
from infra.broker.reading import read_newest
from schemas.cloudevents import JOB_HEADER, header
from schemas.errors import EventError

# How many windows back events of keys that moved are searched.
_FORMER_WINDOWS = 16


@dataclass(frozen=True, slots=True)
class DetectionsKey:
    """Identifies one detections event in the duplicate window."""

    id: str
    """The event's id."""
    frame_id: str | None = None
    """The frame that it is for; None when it belongs to a job."""
    live: bool = False
    """The frame is in the live topic, where one event is enough, whichever version produced it."""


class DuplicateWindow:
    """Holds the keys of the last ``size`` events of one partition of ``detections``."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._ids: OrderedDict[str, str | None] = OrderedDict()
        self._frames: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._ids)

    def contains(self, key: DetectionsKey) -> bool:
        """Return whether the event of ``key`` exists already; for a live frame also one of another version."""
        if key.id in self._ids:
            return True
        return key.live and key.frame_id is not None and key.frame_id in self._frames

    def add(self, key: DetectionsKey) -> bool:
        """Add ``key`` as the newest; return False when the window contains it already (it becomes the newest then)."""
        if self.contains(key):
            if key.id in self._ids:
                self._ids.move_to_end(key.id)
            return False
        self._ids[key.id] = key.frame_id
        if key.frame_id is not None:
            self._frames[key.frame_id] += 1
        while len(self._ids) > self._size:
            self._drop(self._ids.popitem(last=False)[1])
        return True

    def remove(self, key: DetectionsKey) -> None:
        """Remove ``key``, whose event will not be produced."""
        if key.id in self._ids:
            self._drop(self._ids.pop(key.id))

    def _drop(self, frame: str | None) -> None:
        if frame is None:
            return
        self._frames[frame] -= 1
        if self._frames[frame] <= 0:
            del self._frames[frame]


async def rebuild_window(
    reader: Reader,
    source: TopicPartition,
    size: int,
    former_counts: Sequence[int] = (),
) -> DuplicateWindow:
    """Return the window over the last ``size`` events in ``source``, read from its end.

    The end of now is enough: the former owner of the partition was fenced when it was assigned to this worker.
    ``former_counts``: how many partitions the topic had before each growth, the newest first. Before the growth, the
    events of an added partition's keys were in another partition. They are read from there as long as the newer events
    do not fill the window.
    """
    bounds = await reader.bounds(source.topic)
    keys = await read_newest(reader, source, bounds.get(source.partition, (0, 0)), size, _key_in)
    read = {source.partition}

    def moved(record: InRecord) -> DetectionsKey | None:
        belongs = partition_for(record.key or "", len(bounds)) == source.partition
        return _key_in(record) if belongs else None

    for count in former_counts:
        former = source._replace(partition=source.partition % count)
        if former.partition in read or len(keys) >= size:
            continue
        read.add(former.partition)
        first, end = bounds.get(former.partition, (0, 0))
        # Newer events there have other keys only, so after some time nothing within reach belongs to this partition.
        within = (max(first, end - _FORMER_WINDOWS * size), end)
        keys = await read_newest(reader, former, within, size - len(keys), moved) + keys
    window = DuplicateWindow(size)
    for key in keys:
        window.add(key)
    return window


def _key_in(record: InRecord) -> DetectionsKey | None:
    """Return the key of the event in ``record``, or None when it is not an event of a detector."""
    try:
        event_id, frame = header(record.headers, "ce_id"), header(record.headers, "ce_subject")
        job = header(record.headers, JOB_HEADER)
    except EventError:
        return None
    return DetectionsKey(event_id, frame if job is None else None) if event_id else None
