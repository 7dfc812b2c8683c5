"""Measures detect: the time until the detections are back at a steady rate, and a hundred clients at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import orjson
import psutil

from bench import pictures
from bench.measure import percentile
from bench.processes import Server, home, measured
from bench.result import Figure, Goal, Result
from schemas.timestamps import format_utc

GOAL_MS = 100.0
_FRAMES_PER_S = 4.0
_DEVICES = 4
_WARM_UP = 12
_SIDE = 1024
_SCENES = 4
_CLIENTS = 100
_GROWTH_MB = 32.0
_NONE = 0
"""The status of a request that got no response."""
_ALLOWED = (200, 202, 429, 503)
_START = datetime(2026, 5, 1, tzinfo=UTC)
_NOTES = (
    f"`standgale up`, everything in one process, and the embedded broker; {_DEVICES} devices send {_SIDE}×{_SIDE} JPEG "
    f"frames to detect at {_FRAMES_PER_S:g} requests/s together, each at its time, also while "
    "earlier ones still wait; from the first byte of the request to the last one of the response with the detections.",
    f"{_CLIENTS} clients at once: each sends one frame, all at the same moment, round after round; growth of memory: "
    "the resident memory after the last round, less that after the first third of them.",
)


@dataclass(slots=True)
class _Client:
    """Sends frames to detect, each new in time and content, and keeps the times and statuses of the responses."""

    session: aiohttp.ClientSession
    url: str
    tokens: Sequence[str]
    images: Sequence[bytes]
    latencies_ms: list[float] = field(default_factory=list)
    engine_ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    _sent: int = 0

    async def steady(self, frames: int) -> None:
        """Send ``frames`` frames, one every 1 / _FRAMES_PER_S seconds."""
        due = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(frames):
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                due += 1 / _FRAMES_PER_S
                group.create_task(self.send())

    async def at_once(self) -> None:
        """Send one frame of each of a hundred clients."""
        await asyncio.gather(*(self.send() for _ in range(_CLIENTS)))

    async def send(self) -> None:
        """Send one frame."""
        number, self._sent = self._sent, self._sent + 1
        data = b"".join(pictures.numbered(self.images[number % len(self.images)], number))
        headers = {"X-API-Token": self.tokens[number % len(self.tokens)], "Content-Type": "image/jpeg"}
        moment = {"timestamp": format_utc(_START + timedelta(milliseconds=number))}
        url, start = f"{self.url}/api/v1/detect", time.perf_counter()
        try:
            async with self.session.post(url, data=data, params=moment, headers=headers) as found:
                body = await found.read()
        except aiohttp.ClientError:
            self.statuses[_NONE] += 1
            return
        self.latencies_ms.append((time.perf_counter() - start) * 1_000)
        self.statuses[found.status] += 1
        if found.status == 200:
            self.engine_ms.append(orjson.loads(body)["inference_time_ms"])


def run(quick: bool) -> Result:
    """Measure the steady rate, then the many clients."""
    return measured(lambda folder: _run(folder, quick))


async def _run(folder: Path, quick: bool) -> Result:
    frames, rounds = (40, 3) if quick else (240, 15)
    images = [pictures.scene(_SIDE, _SIDE, number).data for number in range(_SCENES)]
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(home(folder))
        tokens = [await place.token(f"drone-{number}") for number in range(_DEVICES)]
        server = await stack.enter_async_context(place.standgale("up", port_setting="STANDGALE_GATEWAY__PORT"))
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True))
        )
        client = _Client(session, server.url, tokens, images)
        await client.steady(_WARM_UP)
        client.latencies_ms.clear()
        client.engine_ms.clear()
        client.statuses.clear()
        await client.steady(frames)
        steady, engine_ms = list(client.latencies_ms), percentile(client.engine_ms, 50)
        without = frames - client.statuses[200]
        client.statuses.clear()
        growth_mb = await _crowd(client, server, rounds)
        other = sum(number for status, number in client.statuses.items() if status not in _ALLOWED)
        return Result(
            "detect",
            "Detect: request to detections",
            (
                Figure("detect, p50", percentile(steady, 50), "ms"),
                Figure("detect, p95", percentile(steady, 95), "ms", Goal(GOAL_MS, "below")),
                Figure("of that in the engine, p50", engine_ms, "ms"),
                Figure("detect, longest", max(steady), "ms"),
                Figure("detect, without detections", without, "of the responses", Goal(1, "below")),
                *(Figure(f"{_CLIENTS} clients, status {one}", client.statuses[one], "responses") for one in _ALLOWED),
                Figure(f"{_CLIENTS} clients, other status or none", other, "responses", Goal(1, "below")),
                Figure(f"{_CLIENTS} clients, growth of memory", growth_mb, "MB", Goal(_GROWTH_MB, "below")),
                Figure("peak memory", server.peak_memory_mb(), "MB"),
            ),
            _NOTES,
        )


async def _crowd(client: _Client, server: Server, rounds: int) -> float:
    """Return by how many MB the process grew in the last two thirds of ``rounds`` rounds."""
    process = psutil.Process(server.pid)
    early_mb = 0.0
    for number in range(rounds):
        await client.at_once()
        if number + 1 == max(1, rounds // 3):
            early_mb = process.memory_info().rss / 1e6
    return process.memory_info().rss / 1e6 - early_mb
