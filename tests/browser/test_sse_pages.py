"""A page of another site follows with a token in the address, shows a picture, and is told of an id that is none."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import cv2
import numpy as np
import orjson
import pytest
from aiohttp import web

from infra.auth.scopes import DeviceScope
from infra.auth.verifier import VerifiedToken
from infra.storage.frames.folder import FolderFrameStore
from schemas.events import DetectionsMade
from sinks.sse import STREAM_PATH
from sinks.sse.access.access import TOKENS_PATH
from tests.browser.test_sse_browser import FLAGS
from tests.harnesses.sse_server import serving
from tests.servers.stream import numbered

pytestmark = pytest.mark.integration

KEY = "sgk_map_secret"
PAGE = """<!doctype html><meta charset="utf-8"><title>map</title><script>
const report = what => fetch("/report", {method: "POST", body: JSON.stringify(what)});
const server = "%s";
const stream = new EventSource(server + "%s");
stream.addEventListener("reset", () => report({reset: true}));
stream.addEventListener("detections", event => {
  const made = JSON.parse(event.data), picture = new Image();
  picture.onload = () => report({number: made.metadata.number, width: picture.naturalWidth});
  picture.onerror = () => report({number: made.metadata.number, width: 0});
  picture.src = new URL(made.image.uri, server);
});
</script>"""


class Keys:
    """Knows one key, of a client that may see drones."""

    holder = VerifiedToken("map", "map", DeviceScope.of(["drone-*"]))

    def verify(self, token: str) -> VerifiedToken | None:
        return self.holder if token == KEY else None

    async def look_up(self, token: str) -> None:
        """Find nothing new."""

    def holder_of(self, token_id: str) -> VerifiedToken | None:
        return self.holder if token_id == "map" else None


class Site:
    """Serves the page and keeps its reports."""

    def __init__(self) -> None:
        self.page = ""
        self.reports: asyncio.Queue[dict[str, object]] = asyncio.Queue()

    async def show(self, _: web.Request) -> web.Response:
        return web.Response(text=self.page, content_type="text/html")

    async def take(self, request: web.Request) -> web.Response:
        self.reports.put_nowait(await request.json())
        return web.Response()

    async def next(self) -> dict[str, object]:
        return await asyncio.wait_for(self.reports.get(), 40)


@asynccontextmanager
async def opened(site: Site) -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes([web.get("/", site.show), web.post("/report", site.take)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_page_with_a_token_shows_pictures_and_sees_a_reset(tmp_path: Path, chromium: str) -> None:
    picture = cv2.imencode(".jpg", np.full((30, 40, 3), 90, np.uint8))[1].tobytes()
    digest, site = hashlib.sha256(picture).hexdigest(), Site()
    store = FolderFrameStore(tmp_path / "frames")
    uri = await store.put(picture, sha256=digest, media_type="image/jpeg")

    def made(number: int, device: str) -> DetectionsMade:
        event = numbered(number, ["car"], device=device)
        image = event.image.model_copy(update={"uri": uri, "sha256": digest, "size_bytes": len(picture)})
        return event.model_copy(update={"image": image})

    quiet, process = subprocess.DEVNULL, None
    async with (
        opened(site) as origin,
        serving(tmp_path, Keys(), store=store, access="keys", cors_origins=(origin,)) as stream,
    ):
        server = stream.url.removesuffix(STREAM_PATH)
        async with stream.http.post(server + TOKENS_PATH, headers={"X-API-Key": KEY}) as response:
            address = orjson.loads(await response.read())["stream_url"]
        site.page = PAGE % (server, f"{address}&last_event_id=of-another-stream")
        command = [chromium, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"{origin}/"]
        try:
            process = await asyncio.to_thread(subprocess.Popen, command, stdout=quiet, stderr=quiet)
            assert await site.next() == {"reset": True}
            await stream.publish(made(1, "mast-1"), made(2, "drone-1"))
            assert await site.next() == {"number": 2, "width": 40}
            assert site.reports.empty()
        finally:
            if process is not None:
                process.kill()
                await asyncio.to_thread(process.wait, 10)
    await store.close()
