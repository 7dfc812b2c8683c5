"""Checks that a page with an EventSource in a real browser shows detections, and reconnects after a restart.

The page reports what it sees to the test over HTTP, so nothing but the browser is needed to drive it.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.event_records import event_record
from schemas.events import DetectionsMade
from schemas.topics import DETECTIONS, load_topics
from sinks.settings import SseSettings
from sinks.sse import STREAM_PATH
from tests.servers.stream import numbered, start_stream

pytestmark = pytest.mark.integration

PAGE = """<!doctype html><meta charset="utf-8"><title>stream</title><script>
const report = what => fetch("/report", {method: "POST", body: JSON.stringify(what)});
const source = new EventSource("%s");
source.onopen = () => report({open: true});
source.addEventListener("detections", event => {
  const made = JSON.parse(event.data);
  report({number: made.metadata.number, label: made.detections[0].label});
});
</script>"""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


class Desk:
    """Serves the page and receives its reports."""

    def __init__(self) -> None:
        self.page = ""
        self.opened = 0
        self.seen: list[tuple[int, str]] = []
        self._changed = asyncio.Event()

    async def show(self, _: web.Request) -> web.Response:
        return web.Response(text=self.page, content_type="text/html")

    async def take(self, request: web.Request) -> web.Response:
        report = await request.json()
        if "open" in report:
            self.opened += 1
        else:
            self.seen.append((report["number"], report["label"]))
        self._changed.set()
        return web.Response()

    async def until(self, *, opened: int = 0, seen: int = 0) -> None:
        async with asyncio.timeout(40):
            while self.opened < opened or len(self.seen) < seen:
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def serving(desk: Desk) -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes([web.get("/", desk.show), web.post("/report", desk.take)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.wait(10)


async def test_a_page_sees_detections_and_comes_back_after_a_restart(
    tmp_path: Path, processes: list[subprocess.Popen[str]], chromium: str
) -> None:
    path = tmp_path / "broker.db"
    desk = Desk()
    broker = EmbeddedBroker(path, load_topics())
    publisher = await broker.publisher()

    def start(port: int, origin: str) -> int:
        server, port = start_stream(path, SseSettings(port=port, cors_origins=(origin,), heartbeat_s=1.0))
        processes.append(server)
        return port

    def browse(profile: Path, address: str) -> None:
        command = [chromium, *FLAGS, f"--user-data-dir={profile}", address]
        quiet = subprocess.DEVNULL
        processes.append(subprocess.Popen(command, stdout=quiet, stderr=quiet, text=True))

    async def publish(*events: DetectionsMade) -> None:
        records = [
            event_record(
                DETECTIONS, one, id=one.id, source="test", subject=None, time=one.detected_at, key=one.device_id
            )
            for one in events
        ]
        await publisher.publish(records)

    try:
        async with serving(desk) as origin:
            port = await asyncio.to_thread(start, 0, origin)
            # From the beginning of the topic; on a reconnect the browser's own Last-Event-ID must win over this one.
            query = "label=car&last_event_id=0.0.0.0.0.0.0.0"
            desk.page = PAGE % f"http://127.0.0.1:{port}{STREAM_PATH}?{query}"
            await asyncio.to_thread(browse, tmp_path / "profile", f"{origin}/")
            await desk.until(opened=1)
            await publish(*[numbered(number, ["car"]) for number in range(10)], numbered(100, ["boat"]))
            await desk.until(seen=10)
            processes[0].kill()
            await asyncio.to_thread(processes[0].wait, 10)
            await publish(*[numbered(number, ["car"]) for number in range(10, 20)], numbered(101, ["boat"]))
            assert await asyncio.to_thread(start, port, origin) == port
            await desk.until(opened=2, seen=20)
            await publish(*[numbered(number, ["car"]) for number in range(20, 30)])
            await desk.until(seen=30)
            assert sorted(desk.seen) == [(number, "car") for number in range(30)]
    finally:
        await publisher.close()
        await broker.close()
