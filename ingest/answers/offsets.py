"""Remembers where the newest detections events of a partition are, by frame."""

from __future__ import annotations

from collections.abc import Iterable

from infra.broker.port import InRecord
from schemas.cloudevents import JOB_HEADER, header
from schemas.errors import EventError


def frame_in(record: InRecord) -> str | None:
    """Return the frame of a record of ``detections``; None when it belongs to a job, or is no event of a detector."""
    try:
        return header(record.headers, "ce_subject") if header(record.headers, JOB_HEADER) is None else None
    except EventError:
        return None


class DetectionsOffsets:
    """Holds the offsets of at most ``most`` events, of the newest ones; of several for one frame the last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._offsets: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def missing(self) -> int:
        """How many more it can hold."""
        return self._most - len(self._offsets)

    def find(self, frame_id: str) -> int | None:
        """Return the offset of the newest event for ``frame_id``, or None."""
        return self._offsets.get(frame_id)

    def add(self, frame_id: str, offset: int) -> None:
        """Add an event that is newer than all others."""
        # The order of the dictionary is the order of the offsets, so the oldest one is first.
        self._offsets.pop(frame_id, None)
        self._offsets[frame_id] = offset
        if len(self._offsets) > self._most:
            del self._offsets[next(iter(self._offsets))]

    def add_earlier(self, earlier: Iterable[tuple[str, int]]) -> None:
        """Add events that are older than all others, the oldest first; what there is no room for is left out."""
        newer = self._offsets
        self._offsets = {}
        for frame_id, offset in (*earlier, *newer.items()):
            self.add(frame_id, offset)

    def clear(self) -> None:
        """Forget all."""
        self._offsets.clear()
