"""Measures how long live frames wait for their detections, without and during a replay."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp

from bench import pictures
from bench.measure import percentile
from bench.processes import Server, home
from schemas.timestamps import format_utc
from standgale.children import standgale_command
from tests.paths import ROOT

_PER_S = 4.0
_SIDE = 1024
_START = datetime(2026, 5, 1, tzinfo=UTC)
_MOST_REPLAYED = 4_000
# Both are measured in turns, so that whatever else the machine does slows both.
_ROUNDS = 5
_CHANGE_S = 5.0
_BACKLOG = 20


def measure_live_during_replay(folder: Path, seconds: float, rate: float | None) -> dict[str, float]:
    """Return the p95 of live frames at 4 per second, in ms, without and during a replay, and their ratio."""
    return asyncio.run(_measure(folder, seconds, rate))


async def _measure(folder: Path, seconds: float, rate: float | None) -> dict[str, float]:
    images = [pictures.scene(_SIDE, _SIDE, number).data for number in range(4)]
    archive = folder / "archive"
    archive.mkdir()
    for number in range(_MOST_REPLAYED):
        (archive / f"{number:06d}.jpg").write_bytes(b"".join(pictures.numbered(images[number % 4], 1_000_000 + number)))
    data = folder / "data"
    async with home(data) as place:
        token = await place.token("live")
        async with place.standgale("up", port_setting="STANDGALE_GATEWAY__PORT") as server:
            live = _Live(server, token, images)
            await live.send(12)
            replay = _start_replay(folder, data, archive, rate)
            before, during = list[float](), list[float]()
            detected, measured_s = 0, 0.0
            try:
                await asyncio.sleep(_CHANGE_S)
                for _ in range(_ROUNDS):
                    replay.send_signal(signal.SIGSTOP)
                    # What is in the topic already is processed meanwhile.
                    await asyncio.sleep(_CHANGE_S)
                    before += await live.send(round(seconds * _PER_S / _ROUNDS))
                    replay.send_signal(signal.SIGCONT)
                    await asyncio.sleep(_CHANGE_S)
                    count, began = await _replayed(place.dsn), time.monotonic()
                    during += await live.send(round(seconds * _PER_S / _ROUNDS))
                    detected += await _replayed(place.dsn) - count
                    measured_s += time.monotonic() - began
                    assert replay.poll() is None, (folder / "replay.log").read_text()
            finally:
                replay.kill()
                replay.wait()
    found = {"without_p95_ms": percentile(before, 95), "during_p95_ms": percentile(during, 95)}
    found |= {"without_p50_ms": percentile(before, 50), "during_p50_ms": percentile(during, 50)}
    found["replayed_per_s"] = detected / measured_s
    found["ratio"] = found["during_p95_ms"] / found["without_p95_ms"]
    return {name: round(value, 2) for name, value in found.items()}


async def _replayed(dsn: str) -> int:
    import asyncpg

    connection = await asyncpg.connect(dsn)
    try:
        devices = "SELECT id FROM devices WHERE device_id = 'archive'"
        return int(await connection.fetchval(f"SELECT count(*) FROM images WHERE device_id = ({devices})"))
    finally:
        await connection.close()


def _start_replay(folder: Path, data: Path, archive: Path, rate: float | None) -> subprocess.Popen[bytes]:
    options = [] if rate is None else ["--rate", str(rate)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "STANDGALE_DATA_DIR": str(data)}
    environment["STANDGALE_REPLAY__MAX_BACKLOG"] = str(_BACKLOG)
    with (folder / "replay.log").open("wb") as log:
        return subprocess.Popen(
            standgale_command("replay", str(archive), "--device", "archive", *options),
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )


class _Live:
    """Sends frames to detect, each at its time, and measures until their detections are back."""

    def __init__(self, server: Server, token: str, images: list[bytes]) -> None:
        self._url = f"{server.url}/api/v1/detect"
        self._token = token
        self._images = images
        self._sent = 0

    async def send(self, count: int) -> list[float]:
        """Send ``count`` frames; return the times in ms."""
        found: list[float] = []
        due = time.perf_counter()
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
            for _ in range(count):
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                due += 1 / _PER_S
                tasks.create_task(self._send(session, found))
        return found

    async def _send(self, session: aiohttp.ClientSession, found: list[float]) -> None:
        number, self._sent = self._sent, self._sent + 1
        data = b"".join(pictures.numbered(self._images[number % 4], number))
        headers = {"X-API-Token": self._token, "Content-Type": "image/jpeg"}
        moment = {"timestamp": format_utc(_START + timedelta(milliseconds=number))}
        began = time.perf_counter()
        async with session.post(self._url, data=data, params=moment, headers=headers) as response:
            await response.read()
            assert response.status in (200, 202), await response.text()
        found.append((time.perf_counter() - began) * 1_000)
