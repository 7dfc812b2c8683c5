"""Limits how many streams are open, in total and for each device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ingest.stream.closing import CloseCode, StreamEnd


class DevicePlaces:
    """Counts the streams of each device."""

    def __init__(self, most_of_device: int) -> None:
        self._most = most_of_device
        self._counts: Counter[str] = Counter()

    def count(self, device_id: str) -> int:
        """Return how many streams the device has, at least one."""
        return max(1, self._counts[device_id])

    @contextmanager
    def reserve(self, device_id: str) -> Iterator[None]:
        """Count one stream of the device during the block. Raises StreamEnd when it has too many."""
        if self._counts[device_id] >= self._most:
            raise StreamEnd(
                CloseCode.TOO_MANY, f"the device has {self._most} connections (stream.max_device_connections)"
            )
        self._counts[device_id] += 1
        try:
            yield
        finally:
            self._counts[device_id] -= 1
            if not self._counts[device_id]:
                del self._counts[device_id]
