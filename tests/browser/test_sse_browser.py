"""A page with a plain EventSource in a real browser: it shows detections, and comes back by itself after a restart.

The page reports what it sees to the test over HTTP, so nothing but the browser is needed to drive it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.event_records import event_record
from schemas.events import DetectionsMade
from schemas.ids import device_uuid
from schemas.topics import DETECTIONS, load_topics
from sinks.sse import STREAM_PATH
from tests.paths import ROOT

pytestmark = pytest.mark.integration

SERVER = """
import asyncio, sys
from pathlib import Path
from infra.broker.embedded.adapter import EmbeddedBroker
from infra.process.health import Health
from infra.process.components import run_components
from infra.process.http_server import HttpComponent
from sinks.settings import SseSettings
from schemas.topics import load_topics
from sinks.sse import DetectionHub, create_sse_app

async def main():
    broker = EmbeddedBroker(Path(sys.argv[1]), load_topics())
    settings = SseSettings(port=int(sys.argv[2]), cors_origins=(sys.argv[3],), heartbeat_s=1.0)
    hub = DetectionHub(broker, settings)
    http = HttpComponent("http", create_sse_app(hub, settings), host=settings.host, port=settings.port)
    print(http.bind(), flush=True)
    await run_components([hub, http], health=Health(), drain_timeout_s=5)
    await broker.close()

asyncio.run(main())
"""
PAGE = """<!doctype html><meta charset="utf-8"><title>stream</title><script>
const tell = what => fetch("/told", {method: "POST", body: JSON.stringify(what)});
const source = new EventSource("%s");
source.onopen = () => tell({open: true});
source.addEventListener("detections", event => {
  const made = JSON.parse(event.data);
  tell({number: made.metadata.number, label: made.detections[0].label});
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


def made(number: int, label: str = "car") -> DetectionsMade:
    frame = device_uuid(f"frame {number}")
    image = {"uri": "file:///a", "sha256": "a" * 64, "size_bytes": 1, "media_type": "image/jpeg"}
    box = {"x1": 0.1, "y1": 0.1, "x2": 0.2, "y2": 0.2}
    steps = ("queued_ms", "fetch_ms", "decode_ms", "inference_ms", "merge_ms", "total_ms")
    return DetectionsMade.model_validate(
        {
            "id": frame,
            "frame_id": frame,
            "device_id": f"drone-{number % 5}",
            "captured_at": "2026-11-20T12:00:00Z",
            "received_at": "2026-11-20T12:00:01Z",
            "detected_at": "2026-11-20T12:00:02Z",
            "image": {**image, "width": 640, "height": 480},
            "metadata": {"number": number},
            "model": {"name": "m", "version": "1"},
            "options": {},
            "timings": dict.fromkeys(steps, 1.0),
            "detections": [{"id": frame, "label": label, "class_id": 0, "confidence": 0.9, "box": box}],
        }
    )


class Desk:
    """Serves the page and takes what it reports."""

    def __init__(self) -> None:
        self.page = ""
        self.opened = 0
        self.seen: list[tuple[int, str]] = []
        self._changed = asyncio.Event()

    async def show(self, _: web.Request) -> web.Response:
        return web.Response(text=self.page, content_type="text/html")

    async def take(self, request: web.Request) -> web.Response:
        told = await request.json()
        if "open" in told:
            self.opened += 1
        else:
            self.seen.append((told["number"], told["label"]))
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
    app.add_routes([web.get("/", desk.show), web.post("/told", desk.take)])
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


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        reason = "chromium not found; install the package chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


async def test_a_page_sees_detections_and_comes_back_after_a_restart(
    tmp_path: Path, processes: list[subprocess.Popen[str]], chromium: str
) -> None:
    path = tmp_path / "broker.db"
    desk = Desk()
    broker = EmbeddedBroker(path, load_topics())
    publisher = await broker.publisher()

    def start(port: int, origin: str) -> int:
        command = [sys.executable, "-c", SERVER, str(path), str(port), origin]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        processes.append(server)
        assert server.stdout is not None
        return int(server.stdout.readline())

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
            await publish(*[made(number) for number in range(10)], made(100, "boat"))
            await desk.until(seen=10)
            processes[0].kill()
            await asyncio.to_thread(processes[0].wait, 10)
            await publish(*[made(number) for number in range(10, 20)], made(101, "boat"))
            assert await asyncio.to_thread(start, port, origin) == port
            await desk.until(opened=2, seen=20)
            await publish(*[made(number) for number in range(20, 30)])
            await desk.until(seen=30)
            assert sorted(desk.seen) == [(number, "car") for number in range(30)]
    finally:
        await publisher.close()
        await broker.close()
