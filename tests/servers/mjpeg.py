"""Serves cameras of JPEG pictures over HTTP, as many as wanted, and knows who is connected to each."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from aiohttp import web
from PIL import Image


def picture(number: int) -> bytes:
    """Return a JPEG of 256×256 pixels, another one for each number."""
    blocks = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(blocks.repeat(32, axis=0).repeat(32, axis=1)).save(out, "JPEG", quality=60)
    return out.getvalue()


class JpegCameras:
    """Answers every path below /cam as a camera of its own; others are wrong in one way each."""

    def __init__(self, rate: float) -> None:
        self.url = ""
        self.connected: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        """The most connections at a time"""
        self._pause_s = 1 / rate
        self._pictures = [picture(number) for number in range(40)]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path.startswith("/around"):
            raise web.HTTPFound("/around")
        if path.startswith("/text"):
            return web.Response(text="this is no video\n" * 100)
        if path.startswith("/noise"):
            return web.Response(body=np.random.default_rng(1).bytes(200_000), content_type="video/mp2t")
        if not path.startswith("/cam"):
            raise web.HTTPNotFound
        return await self._stream(path.removeprefix("/"), request)

    async def _stream(self, name: str, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "multipart/x-mixed-replace; boundary=frame"})
        await response.prepare(request)
        self.connected[name] += 1
        self.most[name] = max(self.most[name], self.connected[name])
        try:
            while True:
                for data in self._pictures:
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                    await response.write(head.encode() + data + b"\r\n")
                    await asyncio.sleep(self._pause_s)
        finally:
            self.connected[name] -= 1


@asynccontextmanager
async def jpeg_cameras(rate: float = 10.0) -> AsyncIterator[JpegCameras]:
    cameras = JpegCameras(rate)
    app = web.Application()
    app.router.add_get("/{path:.*}", cameras.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    cameras.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield cameras
    finally:
        await runner.cleanup()
