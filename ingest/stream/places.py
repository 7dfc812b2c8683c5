"""Limits how many streams are open, in total and for each device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ingest.stream.closing import CloseCode, StreamEnd


class DevicePlaces:
    """Counts the streams of each device."""

    def __init__(self, most: int, most_of_device: int) -> None:
        self.most = most
        self._most_of_device = most_of_device
        self._counts: Counter[str] = Counter()

    @property
    def has_room(self) -> bool:
        """Whether one more stream may be opened."""
        return self._counts.total() < self.most

    def count(self, device_id: str) -> int:
        """Return how many streams the device has, at least one."""
        return max(1, self._counts[device_id])

    @contextmanager
    def reserve(self, device_id: str) -> Iterator[None]:
        """Count one stream of the device during the block. Raises StreamEnd when it has too many, or all have."""
        most = self._most_of_device
        if self._counts[device_id] >= most:
            raise StreamEnd(CloseCode.TOO_MANY, f"the device has {most} connections (stream.max_device_connections)")
        if not self.has_room:
            raise StreamEnd(CloseCode.BUSY, f"{self.most} streams are open (stream.max_connections)")
        self._counts[device_id] += 1
        try:
            yield
        finally:
            self._counts[device_id] -= 1
            if not self._counts[device_id]:
                del self._counts[device_id]
