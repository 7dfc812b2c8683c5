"""The memory that frames under way take together: bounded, and given in the order in which it was asked for."""

from __future__ import annotations

import asyncio
from collections import deque


class MemoryBudget:
    """Counts bytes. All calls from the event loop."""

    def __init__(self, most: int) -> None:
        """``most``: what may be taken in all; more than that only for one who is alone."""
        self._most = most
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> None:
        """Take ``size`` bytes; wait until they fit beside the rest, and until all earlier requests were served."""
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
        """Give back what was taken."""
        self._taken -= size
        self._grant()

    def _fits(self, size: int) -> bool:
        return self._taken == 0 or self._taken + size <= self._most

    def _grant(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if not turn.cancelled():
                if not self._fits(size):
                    return
                self._taken += size
                turn.set_result(None)
            self._waiting.popleft()
