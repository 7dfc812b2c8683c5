"""Follows the detections as a client of the live stream, and reconnects with Last-Event-ID."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from uuid import UUID

import aiohttp

from schemas.events import DetectionsMade

_RECONNECT_DELAY_S = 0.3


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """Holds an event and the time of its arrival (time.perf_counter)."""

    event: DetectionsMade
    at: float


@dataclass(slots=True)
class StreamWatcher:
    """Collects the events of a live stream in ``seen``; ``repeats`` counts events that arrived twice.

    ``last_id`` is the position where it continues, also when ``watch`` is cancelled and called again; ``notices``
    counts the server's messages about the stream (gap, overflow).
    """

    url: str
    on_event: Callable[[SeenEvent], None]
    seen: dict[UUID, SeenEvent] = field(default_factory=dict)
    repeats: int = 0
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    last_id: str | None = None
    notices: Counter[str] = field(default_factory=Counter)

    async def watch(self, session: aiohttp.ClientSession) -> None:
        """Follow the stream until cancelled."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
        while True:
            headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
            try:
                async with session.get(self.url, headers=headers, timeout=timeout) as response:
                    response.raise_for_status()
                    self.connected.set()
                    async for event_id, name, data in _events(response):
                        if name == "detections":
                            self._take(DetectionsMade.from_bytes(data.encode()))
                        else:
                            self.notices[name] += 1
                        self.last_id = event_id or self.last_id
            except (aiohttp.ClientError, TimeoutError):
                # The connection ended. As the EventSource of a browser: wait, and continue after the last id.
                await asyncio.sleep(_RECONNECT_DELAY_S)

    def _take(self, event: DetectionsMade) -> None:
        if event.id in self.seen:
            self.repeats += 1
            return
        self.seen[event.id] = SeenEvent(event, time.perf_counter())
        self.on_event(self.seen[event.id])


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str | None, str, str]]:
    """Yield (id, event, data) of each server-sent event, by the event stream format of the HTML standard."""
    last_id: str | None = None
    name, data = "message", list[str]()
    async for raw in _lines(response):
        line = raw.decode()
        if not line:
            if data:
                yield last_id, name, "\n".join(data)
            name, data = "message", []
            continue
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if key == "id":
            last_id = value
        elif key == "event":
            name = value
        elif key == "data":
            data.append(value)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield lines of any length; the line iterator of aiohttp refuses long ones."""
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")
