"""Receives what leaves the pipeline: live clients, also such that never read, MQTT, and calls of web-hooks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import aiohttp
from aiohttp import web

from schemas.topics import DETECTIONS
from sinks.sse.positions import encode_position
from tests.campaign.clients import LiveClient
from tests.campaign.outs.site import OutsSite
from tests.servers.http import serving
from tests.servers.mosquitto import Received, subscribed

STREAM = "/api/v1/detections/stream"
_SMALL_BUFFER = 4_096
_REFRESH_S = 3.0


@dataclass
class Calls:
    """Holds the calls of web-hooks: the body of each, by the id of its delivery."""

    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)
    again: int = 0
    """How many came with an id that was there before"""

    async def take(self, request: web.Request) -> web.Response:
        """Take a call."""
        delivery, body = request.headers["webhook-id"], await request.json()
        self.again += delivery in self.bodies
        self.bodies[delivery] = body
        return web.Response(status=204)

    def about(self, event: str, key: str) -> list[str]:
        """Return ``key`` of the data of all calls about ``event``."""
        return [body["data"][key] for body in self.bodies.values() if body["type"] == event]


@dataclass
class Listeners:
    """Holds all of them; those of sinks that do not run are empty."""

    clients: list[LiveClient]
    mqtt: Received
    calls: Calls

    def mqtt_events(self) -> list[UUID]:
        """Return the ids of the events that the subscriber of MQTT has got, as often as it has."""
        return [UUID(str(body["id"])) for body in self.mqtt.bodies("standgale/detections/")]


@asynccontextmanager
async def listening(site: OutsSite, clients: int) -> AsyncIterator[Listeners]:
    """Listen inside the block, from before the first frame; the processes of the site must run."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        live = [LiveClient(f"client-{number}", session) for number in range(1, clients + 1)]
        for client in live if "sse" in site.sinks else ():
            client.connect(site.url("sse") + STREAM)
            stack.push_async_callback(client.disconnect)
            await client.wait_until_connected()
        received = Received()
        if "mqtt" in site.sinks:
            topic = "standgale/detections/#"
            received = await stack.enter_async_context(subscribed(site.mosquitto.port, topic))
        calls = Calls()
        if "webhooks" in site.sinks:
            url = await stack.enter_async_context(serving(calls.take))
            await _ask_for_calls(site, session, url)
            # The sink reads every two seconds which web-hooks there are (webhooks.refresh_s).
            await asyncio.sleep(_REFRESH_S)
        yield Listeners(live if "sse" in site.sinks else [], received, calls)


async def _ask_for_calls(site: OutsSite, session: aiohttp.ClientSession, url: str) -> None:
    body = {"url": url, "events": ["job.finished", "detections.found"]}
    headers = {"X-API-Key": site.key}
    async with session.post(f"{site.url('console')}/api/v1/webhooks", json=body, headers=headers) as response:
        if response.status >= 300:
            raise RuntimeError(f"no web-hook is made: {response.status} {await response.text()}")


class StalledClients:
    """Connects clients that ask for all events and never read one."""

    def __init__(self, site: OutsSite, count: int) -> None:
        first = encode_position((0,) * site.broker.topics()[DETECTIONS].partitions)
        self._port = site.ports["sse"]
        self._count = count
        self._request = (
            f"GET {STREAM} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\nLast-Event-ID: {first}\r\n\r\n"
        ).encode()
        self._sockets: list[socket.socket] = []

    def connect(self) -> None:
        """Connect all of them."""
        for _ in range(self._count):
            one = socket.socket()
            # Set before the connection is made, or the system's buffer would take megabytes.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
            one.connect(("127.0.0.1", self._port))
            one.sendall(self._request)
            self._sockets.append(one)

    def close(self) -> None:
        """Close them, with what they have not read."""
        for one in self._sockets:
            one.close()
        self._sockets.clear()
