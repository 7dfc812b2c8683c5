"""Limits how many frames are waited for at the same time, in total and for each device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from infra.http_api.errors.api_errors import OverloadedError
from ingest.metrics import FRAMES_WAITING

_LATER = "Send the request again after Retry-After seconds, or send frames to /api/v1/frames, which does not wait."


@dataclass(slots=True)
class Places:
    """Holds the places of one request."""

    device_id: str
    count: int


class WaitingPlaces:
    """Counts the frames that requests wait for; a place is reserved before a body is read.

    A device may have as many places as are still free: alone at most half, and the less the more devices wait.
    """

    def __init__(self, most: int) -> None:
        self._free = most
        self._devices: Counter[str] = Counter()

    @contextmanager
    def reserve(self, device_id: str, count: int = 1) -> Iterator[Places]:
        """Reserve places for ``count`` frames. Raises OverloadedError when there are not so many."""
        own = self._devices[device_id]
        if count > self._free:
            self._forget(device_id)
            raise OverloadedError(
                "as many frames are waited for as the gateway allows (gateway.max_waiting); nothing was read",
                details=_LATER,
            )
        if own and own + count > self._free:
            raise OverloadedError(
                f"this device waits for {own} frames, which is its share of gateway.max_waiting now; nothing was read",
                details=_LATER,
            )
        places = Places(device_id, 0)
        self._add(places, count)
        try:
            yield places
        finally:
            self._add(places, -places.count)
            self._forget(device_id)

    def shrink(self, places: Places, count: int) -> None:
        """Give back all but ``count`` of ``places``."""
        self._add(places, min(0, count - places.count))

    def _add(self, places: Places, count: int) -> None:
        places.count += count
        self._free -= count
        self._devices[places.device_id] += count
        FRAMES_WAITING.labels("gateway").inc(count)

    def _forget(self, device_id: str) -> None:
        if not self._devices[device_id]:
            del self._devices[device_id]
