"""A live client: follows the detections over server-sent events, reconnects with Last-Event-ID, keeps what it saw."""

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
    """An event and when it arrived (time.perf_counter)."""

    event: DetectionsMade
    at: float


@dataclass(slots=True)
class StreamWatcher:
    """``seen`` grows as events arrive; ``repeats`` counts events that came twice, which must not happen.

    ``last_id`` is where it goes on, also when ``watch`` is cancelled and called again; ``notices`` counts what the
    server says about the stream (gap, overflow).
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
                # The server went away; the browser's EventSource does the same: wait, and resume after the last id.
                await asyncio.sleep(_RECONNECT_DELAY_S)

    def _take(self, event: DetectionsMade) -> None:
        if event.id in self.seen:
            self.repeats += 1
            return
        self.seen[event.id] = SeenEvent(event, time.perf_counter())
        self.on_event(self.seen[event.id])


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str | None, str, str]]:
    """The (id, event, data) of each server-sent event, as the HTML standard's event stream format has them."""
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
    """Lines of any length; aiohttp's own line iterator refuses long ones."""
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")
