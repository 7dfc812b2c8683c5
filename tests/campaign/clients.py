"""Connects live clients to the detections stream; each must see every event once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from uuid import UUID

import aiohttp

from standgale.demo.watcher import StreamWatcher

_CONNECT_TIMEOUT_S = 180.0


class LiveClient:
    """Follows the stream over one connection that can be closed and opened again."""

    def __init__(self, name: str, session: aiohttp.ClientSession) -> None:
        self.name = name
        self._session = session
        self._watcher = StreamWatcher(url="", on_event=lambda seen: None)
        self._task: asyncio.Task[None] | None = None

    @property
    def frames(self) -> list[tuple[str, UUID]]:
        """The received frames, each with its device, in order."""
        return [(seen.event.device_id, seen.event.frame_id) for seen in self._watcher.seen.values()]

    @property
    def seen(self) -> int:
        """The number of events received."""
        return len(self._watcher.seen)

    @property
    def repeats(self) -> int:
        """The number of events received more than once."""
        return self._watcher.repeats

    @property
    def notices(self) -> dict[str, int]:
        """The number of notices of each kind from its servers: gap, overflow."""
        return dict(self._watcher.notices)

    def connect(self, url: str) -> None:
        """Connect to ``url`` and continue after the last event."""
        self._watcher.url = url
        self._task = asyncio.create_task(self._watcher.watch(self._session))

    async def disconnect(self) -> None:
        """Close the connection, also in the middle of an event."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            with suppress(asyncio.CancelledError):
                self._task.result()

    async def wait_until_connected(self) -> None:
        """Return when the server has accepted the connection."""
        await asyncio.wait_for(self._watcher.connected.wait(), _CONNECT_TIMEOUT_S)
