"""Measures the whole pipeline at a steady rate: time from upload to detection, and peak memory of each process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import aiohttp

from bench import pictures
from bench.measure import percentile
from bench.processes import BenchError, Home, Server, home, measured
from bench.result import Figure, Goal, Result
from schemas.timestamps import format_utc
from standgale.demo.watcher import StreamWatcher

GOAL_MS = 500.0
_FRAMES_PER_S = 5.0
_DEVICES = 5
_WARM_UP = 10
_SIDE = 1024
_SCENES = 4
_LARGE = (4000, 3000)
_TIMEOUT_S = 60.0
_LOOK_AGAIN_S = 0.05
_START = datetime(2026, 5, 1, tzinfo=UTC)
_NOTES = (
    f"Latency: `standgale up`, everything in one process; {_DEVICES} devices send {_SIDE}×{_SIDE} JPEG frames at "
    f"{_FRAMES_PER_S:g} frames/s together, on time whatever the detectors do; from the first byte of the upload to the "
    "arrival of the detection at a client of the live stream.",
    "Memory: gateway, detector, sink postgres and sink sse as processes of their own (the most resident memory each "
    f"ever held, VmHWM), after the same load and some {_LARGE[0]}×{_LARGE[1]} frames sent at once.",
)


def run(quick: bool) -> Result:
    """Measure latency in one process, then memory in four."""
    return measured(lambda folder: _run(folder, quick))


async def _run(folder: Path, quick: bool) -> Result:
    frames, large = (30, 2) if quick else (150, 10)
    latencies_ms = await _latencies(folder / "one", frames)
    memory = await _memory(folder / "four", frames // 2, large)
    return Result(
        "pipeline",
        "Whole pipeline: upload to detection, and memory",
        (
            Figure("upload to detection, p50", percentile(latencies_ms, 50), "ms"),
            Figure("upload to detection, p95", percentile(latencies_ms, 95), "ms", Goal(GOAL_MS, "below")),
            Figure("upload to detection, longest", max(latencies_ms), "ms"),
            *(Figure(f"peak memory, {name}", value, "MB") for name, value in memory.items()),
        ),
        _NOTES,
    )


@dataclass(slots=True)
class _Flight:
    """Sends frames and keeps when each upload began (time.perf_counter)."""

    session: aiohttp.ClientSession
    url: str
    tokens: Sequence[str]
    started: dict[UUID, float] = field(default_factory=dict)
    _sent: int = 0

    async def steady(self, images: Sequence[bytes], frames: int) -> None:
        """Send ``frames`` frames, one every 1 / _FRAMES_PER_S seconds; returns when all are accepted."""
        due = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(frames):
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                due += 1 / _FRAMES_PER_S
                group.create_task(self.send(images[number % len(images)]))

    async def send(self, image: bytes) -> None:
        """Send one frame, new in time and content. Raises BenchError when it is not accepted."""
        number, self._sent = self._sent, self._sent + 1
        data = b"".join(pictures.numbered(image, number))
        moment = format_utc(_START + timedelta(milliseconds=number))
        headers = {"X-API-Token": self.tokens[number % len(self.tokens)], "Content-Type": "image/jpeg"}
        start = time.perf_counter()
        async with self.session.post(
            f"{self.url}/api/v1/frames", data=data, params={"captured_at": moment}, headers=headers
        ) as response:
            body = await response.json()
        if response.status != 202:
            raise BenchError(f"the response to a frame was {response.status}: {body}")
        self.started[UUID(body["frame_id"])] = start


async def _latencies(folder: Path, frames: int) -> list[float]:
    """Return milliseconds from upload to arrival of ``frames`` frames, after some for warm-up."""
    images = _scenes()
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(home(folder))
        tokens = [await place.token(f"drone-{number}") for number in range(_DEVICES)]
        server = await stack.enter_async_context(place.standgale("up", port_setting="STANDGALE_GATEWAY__PORT"))
        flight, watcher = await stack.enter_async_context(_watched(server.url, server.url, tokens))
        await flight.steady(images, _WARM_UP)
        warm = set(flight.started)
        await flight.steady(images, frames)
        await _wait_for_results(flight, watcher)
        return [
            (seen.at - flight.started[frame]) * 1_000
            for frame, seen in ((seen.event.frame_id, seen) for seen in watcher.seen.values())
            if frame not in warm
        ]


async def _memory(folder: Path, frames: int, large: int) -> dict[str, float]:
    """Return the peak memory in MB of each process of a pipeline that runs as four."""
    images = _scenes()
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(home(folder))
        tokens = [await place.token(f"drone-{number}") for number in range(_DEVICES)]
        servers = await _fleet(stack, place)
        stream = servers["sink sse"].url
        flight, watcher = await stack.enter_async_context(_watched(servers["gateway"].url, stream, tokens))
        await flight.steady(images, frames)
        big = pictures.scene(*_LARGE, 0).data
        await asyncio.gather(*(flight.send(big) for _ in range(large)))
        await _wait_for_results(flight, watcher)
        return {name: server.peak_memory_mb() for name, server in servers.items()}


async def _fleet(stack: AsyncExitStack, place: Home) -> dict[str, Server]:
    commands: dict[str, str | None] = {
        "gateway": "STANDGALE_GATEWAY__PORT",
        "detector": None,
        "sink postgres": None,
        "sink sse": "STANDGALE_SSE__PORT",
    }
    return {
        name: await stack.enter_async_context(place.standgale(*name.split(), port_setting=setting))
        for name, setting in commands.items()
    }


def _scenes() -> list[bytes]:
    return [pictures.scene(_SIDE, _SIDE, number).data for number in range(_SCENES)]


@asynccontextmanager
async def _watched(url: str, stream_url: str, tokens: Sequence[str]) -> AsyncIterator[tuple[_Flight, StreamWatcher]]:
    """Open a sender, and a client of the live stream that is connected before the first frame is sent."""
    watcher = StreamWatcher(f"{stream_url}/api/v1/detections/stream", lambda _: None)
    async with aiohttp.ClientSession() as session:
        watching = asyncio.create_task(watcher.watch(session))
        try:
            await asyncio.wait_for(watcher.connected.wait(), _TIMEOUT_S)
            yield _Flight(session, url, tokens), watcher
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


async def _wait_for_results(flight: _Flight, watcher: StreamWatcher) -> None:
    """Wait until every accepted frame was seen. Raises BenchError when one is missing for too long."""
    deadline = time.perf_counter() + _TIMEOUT_S
    while len(watcher.seen) < len(flight.started):
        if time.perf_counter() > deadline:
            raise BenchError(f"{len(watcher.seen)} of {len(flight.started)} frames were seen within {_TIMEOUT_S:g} s")
        await asyncio.sleep(_LOOK_AGAIN_S)
