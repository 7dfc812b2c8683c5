"""Live clients of the detections: they are there before the first frame and must see each event once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from uuid import UUID

import aiohttp

from standgale.demo.watcher import StreamWatcher

_CONNECT_TIMEOUT_S = 180.0


class LiveClient:
    """One client, with a connection of its own that can be opened, closed and opened again."""

    def __init__(self, name: str, session: aiohttp.ClientSession) -> None:
        self.name = name
        self._session = session
        self._watcher = StreamWatcher(url="", on_event=lambda seen: None)
        self._task: asyncio.Task[None] | None = None

    @property
    def frames(self) -> list[tuple[str, UUID]]:
        """The frames it was told of, each with its device, in order."""
        return [(seen.event.device_id, seen.event.frame_id) for seen in self._watcher.seen.values()]

    @property
    def seen(self) -> int:
        """How many events it got."""
        return len(self._watcher.seen)

    @property
    def repeats(self) -> int:
        """How many events it got again."""
        return self._watcher.repeats

    @property
    def notices(self) -> dict[str, int]:
        """What its servers said about the stream: gap, overflow."""
        return dict(self._watcher.notices)

    def follow(self, url: str) -> None:
        """Connect to ``url`` and go on after the last event."""
        self._watcher.url = url
        self._task = asyncio.create_task(self._watcher.watch(self._session))

    async def leave(self) -> None:
        """Close the connection, whatever is on its way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            with suppress(asyncio.CancelledError):
                self._task.result()

    async def until_connected(self) -> None:
        """Return when its server has accepted it."""
        await asyncio.wait_for(self._watcher.connected.wait(), _CONNECT_TIMEOUT_S)
