"""Lets the backlog send only what live frames leave, and its share while they are being sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

_MOST_SAVED_BYTES = 1_000_000


class Turns:
    """Is asked before bytes of the backlog are sent; while bytes of a live frame are, the backlog has its share."""

    def __init__(self, backlog_share: float) -> None:
        self._per_live_byte = backlog_share / (1 - backlog_share)
        self._credit = 0.0
        self._live = 0
        self._changed = asyncio.Event()

    @contextmanager
    def live(self) -> Iterator[None]:
        """Hold the backlog back while the bytes of a live frame are being sent."""
        self._live += 1
        try:
            yield
        finally:
            self._live -= 1
            if not self._live:
                # Time in which the backlog had everything is not saved up.
                self._credit = 0.0
            self._changed.set()

    def sent_live(self, size_bytes: int) -> None:
        """Note that so many bytes of a live frame were sent."""
        self._credit = min(self._credit + size_bytes * self._per_live_byte, _MOST_SAVED_BYTES)
        self._changed.set()

    async def wait_for_backlog(self, size_bytes: int) -> None:
        """Wait until so many bytes of the backlog may be sent."""
        while self._live and not 0 < size_bytes <= self._credit:
            self._changed.clear()
            await self._changed.wait()
        if self._live:
            self._credit -= size_bytes
