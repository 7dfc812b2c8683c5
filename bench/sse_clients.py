"""Connects the clients of the live stream benchmark: ``python -m bench.sse_clients PORT CLIENTS EVENTS``.

Prints ``ready`` when all are connected, then one JSON object when they have received EVENTS events each.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from datetime import datetime
from functools import lru_cache
from typing import cast

import orjson
import uvloop

from bench.measure import percentile

_PATH = "/api/v1/detections/stream"
_DETECTED = re.compile(rb'"detected_at":"([^"]+)"')
# A match that a packet's end cuts in two is found when the rest has come.
_TAIL_BYTES = 64
_TIMEOUT_S = 110.0
# What comes twice comes soon after.
_SETTLE_S = 0.5
_CONNECTING = 100


class _Tally:
    """Counts what all clients together have received."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.latencies_ms: list[float] = []
        self.first: float | None = None
        self.last = 0.0
        self.done = asyncio.Event()

    def take(self, detected_s: float) -> None:
        now = time.time()
        self.first = detected_s if self.first is None else min(self.first, detected_s)
        self.last = now
        self.latencies_ms.append((now - detected_s) * 1_000)
        if len(self.latencies_ms) >= self.wanted:
            self.done.set()


class _Client(asyncio.Protocol):
    def __init__(self, tally: _Tally, port: int) -> None:
        self._tally = tally
        self._port = port
        self._rest = b""
        self.open = asyncio.Event()
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(
            f"GET {_PATH} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self.open.set()
        data = self._rest + data
        end = 0
        for match in _DETECTED.finditer(data):
            self.received += 1
            self._tally.take(_seconds(match[1]))
            end = match.end()
        self._rest = data[max(end, len(data) - _TAIL_BYTES) :]


@lru_cache(maxsize=10_000)
def _seconds(moment: bytes) -> float:
    """Return seconds since the epoch; all clients receive the same times, so each is parsed once."""
    return datetime.fromisoformat(moment.decode()).timestamp()


async def _main(port: int, clients: int, events: int) -> None:
    tally = _Tally(clients * events)
    loop = asyncio.get_running_loop()
    slots = asyncio.Semaphore(_CONNECTING)

    async def connect() -> _Client:
        async with slots:
            _, client = await loop.create_connection(lambda: _Client(tally, port), "127.0.0.1", port)
            await client.open.wait()
            return client

    connected = await asyncio.gather(*(connect() for _ in range(clients)))
    print("ready", flush=True)
    await asyncio.wait_for(tally.done.wait(), _TIMEOUT_S)
    await asyncio.sleep(_SETTLE_S)
    wrong = [client.received for client in connected if client.received != events]
    if wrong:
        sys.exit(f"{len(wrong)} of {clients} clients received another number of events than {events}: {wrong[:10]}")
    assert tally.first is not None
    found = {
        "p50_ms": percentile(tally.latencies_ms, 50),
        "p99_ms": percentile(tally.latencies_ms, 99),
        "deliveries_per_s": len(tally.latencies_ms) / (tally.last - tally.first),
    }
    print(orjson.dumps(found).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(_main(*map(int, sys.argv[1:])))
