"""Limits the memory that all running attempts use together, and gives it out in the order of the requests."""

from __future__ import annotations

import asyncio
from collections import deque


class MemoryBudget:
    """Counts the bytes that are in use. Use it from the event loop."""

    def __init__(self, limit: int) -> None:
        """``limit``: how many bytes may be in use; a single request may be larger when no other bytes are in use."""
        self._limit = limit
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> None:
        """Take ``size`` bytes; wait until they fit, and until all earlier requests have got theirs."""
        if not self._waiting and self._fits(size):
            self._taken += size
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._grant()
            else:
                self.give(size)
            raise

    def give(self, size: int) -> None:
        """Return ``size`` bytes that were taken."""
        self._taken -= size
        self._grant()

    def _fits(self, size: int) -> bool:
        return self._taken == 0 or self._taken + size <= self._limit

    def _grant(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if not turn.cancelled():
                if not self._fits(size):
                    return
                self._taken += size
                turn.set_result(None)
            self._waiting.popleft()
