"""Is a model of a connection with a long delay that loses packets: no kernel of these machines has netem.

Each segment arrives after half the round trip. A lost one arrives a round trip later, and all behind it wait for it.
The rate is what TCP reaches at this loss (Mathis: 1.22 · MSS / (RTT · √loss)); one connection has it for itself.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

from ingest.edge.spool.spool import WAITING_FOLDER
from schemas.topics import FRAMES_BACKFILL
from tests.harnesses.edge_backlog import fill_spool
from tests.harnesses.edge_process import EdgeProcess
from tests.servers.gateway_process import GatewayProcess

_SEGMENT = 1_448
_MOST_WAITING = 512
"""Segments on the way: the window of a connection."""


@dataclass(frozen=True)
class Link:
    """Says how long and how bad a connection is."""

    round_trip_s: float = 0.2
    loss: float = 0.01
    seed: int = 1

    @property
    def bytes_per_s(self) -> float:
        return 1.22 * _SEGMENT / (self.round_trip_s * sqrt(self.loss))


@asynccontextmanager
async def long_link(target: int, link: Link) -> AsyncIterator[int]:
    """Listen in front of the port ``target`` inside the block; yield the port."""
    rng = random.Random(link.seed)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A connection costs a round trip before the first byte.
        await asyncio.sleep(link.round_trip_s)
        there, back = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(_carry(reader, back, link, rng), _carry(there, writer, link, rng))

    listening = await asyncio.start_server(handle, "127.0.0.1", 0, limit=16_384)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link, rng: random.Random) -> None:
    on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST_WAITING)
    arriving = asyncio.create_task(_deliver(on_the_way, writer))
    sent_at = arrives_at = 0.0
    with suppress(OSError):
        while piece := await reader.read(_SEGMENT):
            sent_at = max(sent_at, time.monotonic()) + len(piece) / link.bytes_per_s
            lost_s = link.round_trip_s if rng.random() < link.loss else 0.0
            arrives_at = max(arrives_at, sent_at + link.round_trip_s / 2 + lost_s)
            await on_the_way.put((arrives_at, piece))
    await on_the_way.put((arrives_at, b""))
    await arriving


async def _deliver(on_the_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while True:
            at, piece = await on_the_way.get()
            await asyncio.sleep(max(at - time.monotonic(), 0))
            if not piece:
                break
            writer.write(piece)
            await writer.drain()
    writer.close()


async def backlog_over_link(folder: Path, frames: int, link: Link, *, padding: int, use_stream: bool) -> float:
    """Send a backlog of ``frames`` (2 kB, and ``padding`` bytes more) over ``link``; return frames per second."""
    folder.mkdir()
    with GatewayProcess(folder / "gateway") as gateway:
        async with long_link(gateway.port, link) as port:
            edge = EdgeProcess(folder / "camera", folder / "spool", f"http://127.0.0.1:{port}")
            edge.environment = {"STANDGALE_EDGE__USE_STREAM": str(use_stream)}
            await asyncio.to_thread(fill_spool, edge.spool / WAITING_FOLDER, frames, padding)
            edge.start("--delete")
            try:
                await edge.wait_until(lambda found: found.state.counts.sent > 0)
                began, already = time.monotonic(), edge.status().state.counts.sent
                await edge.wait_until(lambda found: found.frames == 0, 600)
                seconds = time.monotonic() - began
                assert edge.stop() == 0, edge.logged()
            finally:
                edge.kill()
        arrived = [frame.captured_at for frame in await gateway.frames(FRAMES_BACKFILL)]
    assert len(arrived) == frames
    assert arrived == sorted(arrived)
    return (frames - already) / seconds
