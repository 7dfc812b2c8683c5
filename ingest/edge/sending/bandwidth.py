"""Limits how many bytes are sent per second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

_LARGEST_CHUNK = 65_536
_CHUNKS_PER_S = 10


class Bandwidth:
    """Gives out a body in pieces, not faster than its rate on average; time without uploads is not saved up."""

    def __init__(self, max_bytes_per_s: int | None) -> None:
        self._rate = max_bytes_per_s
        self._due_s = 0.0

    @property
    def chunk_bytes(self) -> int:
        """The size of a piece: a tenth of a second's at most, so that the rate is even."""
        if self._rate is None:
            return _LARGEST_CHUNK
        return max(1, min(_LARGEST_CHUNK, self._rate // _CHUNKS_PER_S))

    async def pieces(self, body: bytes) -> AsyncIterator[memoryview]:
        """Yield the pieces of ``body``, each when it may be sent."""
        view = memoryview(body)
        for start in range(0, len(view), self.chunk_bytes):
            piece = view[start : start + self.chunk_bytes]
            if self._rate is not None:
                now = asyncio.get_running_loop().time()
                self._due_s = max(self._due_s, now)
                if self._due_s > now:
                    await asyncio.sleep(self._due_s - now)
                self._due_s += len(piece) / self._rate
            yield piece
