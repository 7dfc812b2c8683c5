"""Notes since when the client of a connection has been taking nothing of what is sent."""

from __future__ import annotations

import asyncio
import time


class BlockedWrites(asyncio.Protocol):
    """Is a base of protocols that end connections whose clients do not read."""

    _blocked_since: float | None = None

    def pause_writing(self) -> None:
        """Note since when the client has been taking nothing."""
        self._blocked_since = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Continue: the client has read."""
        self._blocked_since = None
        super().resume_writing()
