"""Passes uploads on to a gateway, and fails some of them before or after the gateway has taken them."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from infra.deploy.ports import free_port

_MOST_BYTES = 1 << 28
_CUT_MESSAGES = 0.05
"""Of the share of uploads that fail; each message that is lost takes all in flight with it."""

_Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


@dataclass
class FaultProxy:
    """Is an HTTP server on one port; ``fails`` is the share of uploads that get 500, cut connections and the like."""

    target: str
    seed: int = 1
    fails: float = 0.0
    port: int = field(default_factory=free_port)
    counts: Counter[str] = field(default_factory=Counter)
    accepted: dict[str, float] = field(default_factory=dict)
    """When the gateway first accepted each frame, on the monotonic clock, by capture time."""
    _runner: web.AppRunner | None = None

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def open(self) -> None:
        """Listen."""
        app = web.Application(client_max_size=_MOST_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def close(self) -> None:
        """Refuse connections from now on."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._pass_messages(request)
        body = await request.read()
        fault = self._rng.choice(("500", "500", "lost", "cut")) if self._rng.random() < self.fails else "none"
        self.counts[fault] += 1
        if fault == "500":
            return web.Response(status=500, text="no")
        response = await self._forward(request, body)
        if response.status == 202 and request.path == "/api/v1/frames":
            self.accepted.setdefault(request.query["captured_at"], time.monotonic())
        if fault == "lost":
            return web.Response(status=500, text="the gateway took it, and nobody knows")
        if fault == "cut" and request.transport is not None:  # None: the client has gone already
            request.transport.abort()
        return response

    async def _pass_messages(self, request: web.Request) -> web.StreamResponse:
        """Pass the messages of a WebSocket on, and cut it before or after some of them."""
        token = {"X-API-Token": request.headers["X-API-Token"]}
        names = [name.strip() for name in request.headers["Sec-WebSocket-Protocol"].split(",")]
        try:
            async with (
                aiohttp.ClientSession() as client,
                client.ws_connect(self.target + request.path_qs, headers=token, protocols=names) as there,
            ):
                here = web.WebSocketResponse(protocols=names, max_msg_size=_MOST_BYTES)
                await here.prepare(request)
                ways = asyncio.create_task(self._pass_on(here, there)), asyncio.create_task(self._pass_on(there, here))
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                if there.close_code is not None and not here.closed:
                    await here.close(code=there.close_code)
                elif request.transport is not None:
                    request.transport.abort()
                return here
        except aiohttp.WSServerHandshakeError as error:
            return web.Response(status=error.status)
        except (aiohttp.ClientError, OSError):
            return web.Response(status=502, text="the gateway is unavailable")

    async def _pass_on(self, source: _Socket, target: _Socket) -> None:
        with suppress(OSError, aiohttp.ClientError):
            async for message in source:
                is_cut = self._rng.random() < self.fails * _CUT_MESSAGES
                self.counts["message cut" if is_cut else "message"] += 1
                if is_cut:
                    return
                if message.type is aiohttp.WSMsgType.BINARY:
                    await target.send_bytes(message.data)
                else:
                    content = json.loads(message.data)
                    if content["type"] == "ack":
                        self.accepted.setdefault(content["captured_at"], time.monotonic())
                    await target.send_str(message.data)

    async def _forward(self, request: web.Request, body: bytes) -> web.StreamResponse:
        headers = {name: request.headers[name] for name in ("X-API-Token", "Content-Type") if name in request.headers}
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as client,
                client.request(request.method, self.target + request.path_qs, data=body, headers=headers) as response,
            ):
                kept = {name: response.headers[name] for name in ("Retry-After",) if name in response.headers}
                kind = response.content_type
                return web.Response(body=await response.read(), status=response.status, headers=kept, content_type=kind)
        except (aiohttp.ClientError, OSError):
            return web.Response(status=502, text="the gateway is unavailable")


@asynccontextmanager
async def fault_proxy(target: str, *, fails: float = 0.0, seed: int = 1) -> AsyncIterator[FaultProxy]:
    """Run a proxy in front of ``target`` inside the block."""
    proxy = FaultProxy(target, seed, fails)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()
