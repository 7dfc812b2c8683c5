"""Sends pictures by the client of docs/stream.md while the gateway and what is behind it fail, and accounts for all."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from ingest.settings import GatewaySettings
from schemas.timestamps import format_utc
from standgale.testing.waiting import until
from tests.harnesses.cutting_proxy import CuttingProxy, cutting_proxy
from tests.paths import ROOT
from tests.servers.gateway import TOKEN, jpeg
from tests.servers.gateway_process import GatewayProcess

_FIRST = 1_780_000_000
_CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
_SMALL = jpeg(256, 256)


@dataclass(frozen=True)
class StreamOutages:
    """Says how many pictures are sent, and how often each part fails meanwhile."""

    frames: int
    kills: int = 1
    restarts: int = 1
    """SIGTERM, and a start."""
    freezes: int = 1
    cuts: int = 2
    """Connections that are reset in the middle of a frame."""
    locks: int = 1
    """Times in which the broker's file is locked, beyond the gateway's time limit for publishing."""
    stores: int = 1
    """Times in which the store's folder is away."""
    broken: float = 0.5
    """The share of pictures that are none."""
    seed: int = 1
    timeout_s: float = 100.0


@dataclass
class StreamAccount:
    """Says what arrived."""

    frames: int
    missing: int
    repeated: int
    """Events of frames.live beyond one per frame."""
    in_order: bool
    acknowledged: int
    refused: int
    faults: Counter[str] = field(default_factory=Counter)
    cuts: int = 0
    seconds: float = 0.0


def client_of_the_page() -> str:
    """Return the client that docs/stream.md shows."""
    found = _CODE.search((ROOT / "docs" / "stream.md").read_text())
    assert found is not None
    return found[1]


def write_pictures(folder: Path, outages: StreamOutages) -> list[str]:
    """Write the pictures, each with its own content and time; return the times of those that are pictures."""
    folder.mkdir()
    chosen = random.Random(outages.seed)
    times = []
    for number in range(outages.frames):
        path = folder / f"{number:06}.jpg"
        is_broken = chosen.random() < outages.broken
        comment = b"\xff\xfe\x00\x0a%08d" % number
        path.write_bytes(b"\xff\xd8" + comment + (b"broken" if is_broken else _SMALL[2:]))
        os.utime(path, (_FIRST + number, _FIRST + number))
        if not is_broken:
            times.append(_FIRST + number)
    return [time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(moment)) for moment in times]


class _Client:
    """Is the client's process; its answers are lines in a file."""

    def __init__(self, folder: Path, pictures: Path, port: int) -> None:
        program, self._output, self._errors = folder / "send.py", folder / "answers", folder / "errors"
        program.write_text(client_of_the_page())
        command = (sys.executable, str(program), f"ws://127.0.0.1:{port}/api/v1/stream", str(pictures))
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            quick = {f"WEBSOCKETS_BACKOFF_{name}": "0.05" for name in ("INITIAL_DELAY", "MIN_DELAY")}
            environment = {**os.environ, **quick, "WEBSOCKETS_BACKOFF_MAX_DELAY": "0.5", "STANDGALE_TOKEN": TOKEN}
            self.process = subprocess.Popen(command, stdout=output, stderr=errors, env=environment)

    def answers(self) -> int:
        return self._output.read_bytes().count(b"\n")

    def types(self) -> Counter[str]:
        return Counter(json.loads(line)["type"] for line in self._output.read_bytes().splitlines())

    async def wait_for(self, answers: int, timeout_s: float) -> None:
        await until(lambda: self.answers() >= answers or self.process.poll() is not None, timeout_s=timeout_s)

    async def wait(self, timeout_s: float) -> None:
        await until(lambda: self.process.poll() is not None, timeout_s=timeout_s)
        assert self.process.returncode == 0, self._errors.read_text()


async def stream_through_outages(folder: Path, outages: StreamOutages) -> StreamAccount:
    """Send all pictures, and return what arrived at the gateway."""
    began = time.monotonic()
    wanted = write_pictures(folder / "pictures", outages)
    # Locks and absences are longer than these limits, so that frames fail.
    settings = GatewaySettings(publish_timeout_s=0.5, store_timeout_s=5.0)
    gateway = GatewayProcess(folder / "gateway", settings=settings)
    gateway.start()
    try:
        async with cutting_proxy(gateway.port, outages.seed) as proxy:
            client = _Client(folder, folder / "pictures", proxy.port)
            try:
                faults = await _run(client, gateway, proxy, outages)
                await client.wait(outages.timeout_s)
            finally:
                client.process.kill()
                client.process.wait()
        arrived = [format_utc(frame.captured_at) for frame in await gateway.frames()]
    finally:
        gateway.kill()
    types = client.types()
    return StreamAccount(
        frames=len(arrived),
        missing=len(set(wanted) - set(arrived)),
        repeated=len(arrived) - len(set(arrived)),
        in_order=arrived == wanted,
        acknowledged=types["ack"],
        refused=types["refused"],
        faults=faults,
        cuts=proxy.cuts,
        seconds=round(time.monotonic() - began, 1),
    )


async def _run(client: _Client, gateway: GatewayProcess, proxy: CuttingProxy, outages: StreamOutages) -> Counter[str]:
    """Cause the faults, one after the other in random order, spread over all frames."""
    chosen = random.Random(outages.seed)

    async def cut() -> None:
        proxy.cut()

    faults: dict[str, tuple[int, Callable[[], Awaitable[None]]]] = {
        "gateway killed": (outages.kills, lambda: _kill(gateway, chosen)),
        "gateway restarted": (outages.restarts, lambda: _restart(gateway)),
        "gateway frozen": (outages.freezes, lambda: _freeze(gateway, proxy, chosen)),
        "connection cut": (outages.cuts, cut),
        "broker locked": (outages.locks, lambda: _lock_broker(gateway)),
        "store away": (outages.stores, lambda: _take_store_away(gateway)),
    }
    planned = [name for name, (count, _) in faults.items() for _ in range(count)]
    chosen.shuffle(planned)
    done: Counter[str] = Counter()
    for number, name in enumerate(planned, start=1):
        await client.wait_for(outages.frames * number // (len(planned) + 1), outages.timeout_s)
        await asyncio.sleep(chosen.uniform(0.0, 0.01))
        await faults[name][1]()
        done[name] += 1
    return done


async def _kill(gateway: GatewayProcess, chosen: random.Random) -> None:
    gateway.kill()
    await asyncio.sleep(chosen.uniform(0.0, 0.3))
    await asyncio.to_thread(gateway.start)


async def _restart(gateway: GatewayProcess) -> None:
    await asyncio.to_thread(gateway.stop)
    await asyncio.to_thread(gateway.start)


async def _freeze(gateway: GatewayProcess, proxy: CuttingProxy, chosen: random.Random) -> None:
    """Freeze the gateway; half of the times the client connects anew meanwhile."""
    gateway.freeze()
    if chosen.random() < 0.5:
        proxy.cut()
    await asyncio.sleep(1.0)
    gateway.thaw()


async def _lock_broker(gateway: GatewayProcess) -> None:
    def lock() -> None:
        connection = sqlite3.connect(gateway.folder / "broker.db", isolation_level=None, timeout=5.0)
        try:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(1.0)
            connection.execute("ROLLBACK")
        finally:
            connection.close()

    await asyncio.to_thread(lock)


async def _take_store_away(gateway: GatewayProcess) -> None:
    frames, away = gateway.folder / "frames", gateway.folder / "frames-away"
    frames.rename(away)
    frames.write_text("no folder")
    await asyncio.sleep(0.5)
    frames.unlink()
    away.rename(frames)
