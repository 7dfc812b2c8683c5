"""Holds a replay back: by its rate, and by how many frames of the backfill are not processed yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from infra.errors import TransientError


class Rate:
    """Lets amounts pass, not more per second than the rate on average; time without any is not saved up."""

    def __init__(self, per_second: float | None) -> None:
        self._per_second = per_second
        self._due_s = 0.0

    async def take(self, amount: float) -> None:
        """Return when ``amount`` may pass."""
        if self._per_second is None:
            return
        now = asyncio.get_running_loop().time()
        begin_s = max(self._due_s, now)
        self._due_s = begin_s + amount / self._per_second
        if begin_s > now:
            await asyncio.sleep(begin_s - now)


class BacklogGate:
    """Lets frames pass while fewer than ``most`` are published and not processed."""

    def __init__(
        self,
        read_backlog: Callable[[], Awaitable[int]],
        most: int,
        interval_s: float,
        report: Callable[[str | None], None],
    ) -> None:
        """``most`` 0: no limit. ``report`` gets what it waits for, and None when it waits no longer."""
        self._read_backlog = read_backlog
        self._most = most
        self._interval_s = interval_s
        self._report = report
        self._free = 0
        self._passed = 0
        self._read_at_s = float("-inf")

    async def enter(self) -> None:
        """Return when one more frame may be read and published."""
        if not self._most:
            return
        now = asyncio.get_running_loop().time
        waits = False
        while self._free <= 0 or now() - self._read_at_s >= self._interval_s:
            try:
                backlog = await self._read_backlog() + self._passed
            except TransientError as error:
                self._report(f"the backlog cannot be read: {error}")
            else:
                self._read_at_s, self._free = now(), self._most - backlog
                if self._free > 0:
                    break
                self._report(
                    f"{backlog:,} frames of frames.backfill are not processed yet, replay.max_backlog is "
                    f"{self._most:,}; does a detector run?"
                )
            waits = True
            await asyncio.sleep(self._interval_s)
        if waits:
            self._report(None)
        self._free -= 1
        self._passed += 1

    def settle(self, count: int) -> None:
        """Count ``count`` frames that entered as published, refused or known: the backlog has them, or never will."""
        self._passed -= count
