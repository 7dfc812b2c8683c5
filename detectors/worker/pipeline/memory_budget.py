"""Limits the memory that all running attempts use together, and gives it out by turns."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable

# A request that does not fit yet may be passed by so many that do; then all wait for it.
_MOST_PASSED = 64

_Request = tuple[int, asyncio.Future[None]]


class MemoryBudget:
    """Counts the bytes that are in use. Use it from the event loop.

    Each owner of requests has its turn, so that one with many large requests does not keep the others waiting; the
    requests of one owner are granted in their order.
    """

    def __init__(self, limit: int) -> None:
        """``limit``: how many bytes may be in use; a single request may be larger when no other bytes are in use."""
        self._limit = limit
        self._taken = 0
        self._passed = 0
        self._waiting: dict[Hashable, deque[_Request]] = {}

    async def take(self, size: int, owner: Hashable = None) -> None:
        """Take ``size`` bytes; wait until they fit, and until all earlier requests of ``owner`` have got theirs."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append((size, turn))
        self._grant()
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
        """Grant one request after the other, the owner whose last turn is longest ago first."""
        while self._grant_one():
            pass

    def _grant_one(self) -> bool:
        is_first = True
        for owner, requests in list(self._waiting.items()):
            while requests and requests[0][1].cancelled():
                requests.popleft()
            if not requests:
                del self._waiting[owner]
                continue
            size, turn = requests[0]
            if self._fits(size) and (is_first or self._passed < _MOST_PASSED):
                self._passed = 0 if is_first else self._passed + 1
                self._taken += size
                turn.set_result(None)
                requests.popleft()
                # Its next turn comes after those of all others.
                del self._waiting[owner]
                if requests:
                    self._waiting[owner] = requests
                return True
            is_first = False
        return False
