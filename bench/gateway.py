"""Measures how many frames of 200 KB per second the gateway accepts, and a bare handler under the same server."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bench import pictures
from bench.batches import BatchUploads, batch_uploads, send_batches
from bench.measure import Run, take_turns
from bench.processes import Server, home, measured
from bench.result import RATIO, Figure, Goal, Result
from bench.uploads import Uploads, new_uploads, send
from bench.websockets import Streams, new_streams, send_streams
from infra.deploy.ports import free_port
from standgale.children import run_child

GOAL = 1.0
BATCH_GOAL = 1.0
STREAM_GOAL = 1.0
_BATCHES = 8
_BATCH_DEVICES = 4
_STREAMS = 4
_AT_ONCE = 8
_FRAME_BYTES = 200_000
_CONNECTIONS = 32
_APART = 100_000_000
"""Between the first frame numbers of two servers."""
_NOTE = (
    f"{_CONNECTIONS} keep-alive connections, every frame new in time and content. The gateway is the real process: "
    "token, validation by content, EXIF, folder store and publish to the embedded broker, both durable before the 202. "
    "The bare handler runs under the same uvicorn settings. The goal is on the durable one, which syncs file and "
    "folder as the store does; the plain one leaves writing to the kernel, so it is no like for like. "
    f"Batches: {_BATCHES} requests of 50 frames at once, of {_BATCH_DEVICES} devices, until all are in the broker. "
    f"WebSockets: {_STREAMS} connections of as many devices with at most {_AT_ONCE} frames in progress on each; and "
    "one connection with as many as its credits allow."
)


def run(quick: bool) -> Result:
    """Measure both comparisons, in turns."""
    return measured(lambda folder: _run(folder, quick))


async def _run(folder: Path, quick: bool) -> Result:
    frames, rounds = (150, 1) if quick else (1_000, 4)
    picture = pictures.of_size(_FRAME_BYTES).data
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(home(folder))
        token = await place.token("bench")
        batch_tokens = [await place.token(f"batch-{number}") for number in range(_BATCH_DEVICES)]
        gateway = await stack.enter_async_context(place.standgale("gateway", port_setting="STANDGALE_GATEWAY__PORT"))
        durable = await stack.enter_async_context(_bare(folder, "durable"))
        plain = await stack.enter_async_context(_bare(folder, "plain"))
        path = "/api/v1/frames"
        ours, like, unlike = (
            new_uploads(server.port, path, token, picture, number * _APART)
            for number, server in enumerate((gateway, durable, plain))
        )
        like_for_like = await take_turns(_turn(ours, frames), _turn(like, frames), rounds)
        not_durable = await take_turns(_turn(ours, frames), _turn(unlike, frames), max(1, rounds // 2))
        by_batch = await stack.enter_async_context(
            batch_uploads(place, gateway.port, batch_tokens, picture, 3 * _APART)
        )
        batches = await take_turns(_batch_turn(by_batch, quick), _turn(like, frames), max(1, rounds // 2))
        by_stream = new_streams(gateway.port, batch_tokens, picture, 4 * _APART)
        streams = await take_turns(_stream_turn(by_stream, frames, _STREAMS, _AT_ONCE), _turn(like, frames), rounds)
        alone = await take_turns(
            _stream_turn(by_stream, frames, 1, _CONNECTIONS), _turn(like, frames), max(1, rounds // 2)
        )
        memory_mb = gateway.peak_memory_mb()
    return Result(
        "gateway",
        f"Gateway over a bare handler ({len(picture) // 1000} KB JPEG)",
        (
            Figure("bare handler, durable", like_for_like.bare_rate, "frames/s"),
            Figure("bare handler, plain", not_durable.bare_rate, "frames/s"),
            Figure("gateway", like_for_like.our_rate, "frames/s"),
            Figure("gateway over durable handler", like_for_like.ratio, RATIO, Goal(GOAL)),
            Figure("gateway over plain handler", not_durable.ratio, RATIO),
            Figure("gateway, batches of 50", batches.our_rate, "frames/s"),
            Figure("gateway, batches of 50, over durable handler", batches.ratio, RATIO, Goal(BATCH_GOAL)),
            Figure("gateway, WebSockets", streams.our_rate, "frames/s"),
            Figure("gateway, WebSockets, over durable handler", streams.ratio, RATIO, Goal(STREAM_GOAL)),
            Figure("gateway, one WebSocket", alone.our_rate, "frames/s"),
            Figure("gateway, one WebSocket, over durable handler", alone.ratio, RATIO),
            Figure("peak memory of the gateway", memory_mb, "MB"),
        ),
        (_NOTE,),
    )


def _turn(uploads: Uploads, frames: int) -> Run:
    async def turn() -> float:
        return await send(uploads, frames, _CONNECTIONS)

    return turn


def _batch_turn(uploads: BatchUploads, quick: bool) -> Run:
    async def turn() -> float:
        return await send_batches(uploads, 3 if quick else _BATCHES)

    return turn


def _stream_turn(streams: Streams, frames: int, connections: int, at_once: int) -> Run:
    async def turn() -> float:
        return await send_streams(streams, frames, connections, at_once)

    return turn


@asynccontextmanager
async def _bare(folder: Path, kind: str) -> AsyncIterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "bench.bare_gateway", str(port), str(folder / kind), kind]
    async with run_child(
        command, dict(os.environ), folder / f"bare-{kind}.log", f"http://127.0.0.1:{port}/"
    ) as process:
        yield Server(process.pid, port)
