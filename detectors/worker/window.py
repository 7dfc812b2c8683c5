"""The bounded memory of what was answered already, so that a frame that stands twice in a topic is answered once.

A device that never saw its 202 sends the frame again, and the same ``frame.captured`` stands twice. The answer's
event id
is computed from frame, job and model version (:func:`schemas.ids.answer_id`), so it can be known before any work is
done,
and it is the ``ce_id`` header of the answer in ``detections``: rebuilding the window needs headers only.
"""

from __future__ import annotations

from collections import OrderedDict

from infra.broker.port import InRecord, Reader, TopicPartition
from infra.broker.reading import records_between
from schemas.cloudevents import header
from schemas.errors import EventError

_READ_RECORDS = 2_000


class DuplicateWindow:
    """The last ``size`` answer ids of one partition of ``detections``."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, answer: str) -> bool:
        """Remember ``answer``; False when it was known already (then it counts as seen just now)."""
        known = answer in self._ids
        self._ids[answer] = None
        self._ids.move_to_end(answer)
        while len(self._ids) > self._size:
            self._ids.popitem(last=False)
        return not known

    def forget(self, answer: str) -> None:
        """Take back an ``answer`` that was not given after all."""
        self._ids.pop(answer, None)


async def rebuild(reader: Reader, source: TopicPartition, size: int) -> DuplicateWindow:
    """The window over the last ``size`` answers in ``source``, read from its tail.

    Reads up to the end as it stands now: whoever owned the partition before has been fenced when it was assigned to us.
    """
    window = DuplicateWindow(size)
    first, end = (await reader.bounds(source.topic)).get(source.partition, (0, 0))
    start = max(first, end - size)
    async for record in records_between(reader, source, start, end, batch=_READ_RECORDS):
        answer = _answer_in(record)
        if answer:
            window.add(answer)
    return window


def _answer_in(record: InRecord) -> str | None:
    """The answer's id, or None when the record is not one of ours; whoever reads the topic dead-letters it."""
    try:
        return header(record.headers, "ce_id")
    except EventError:
        return None
