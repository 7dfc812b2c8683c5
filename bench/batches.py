"""Sends frames to detect/batch, and measures until all of them are in the broker: that is when they are accepted."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

from bench.pictures import numbered
from bench.processes import BenchError, Home
from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.open import embedded_file
from infra.broker.port import Reader
from schemas.topics import FRAMES_BACKFILL, load_topics

PATH = "/api/v1/detect/batch"
IMAGES = 50
_BOUNDARY = b"bench-batch"
_END = b"--" + _BOUNDARY + b"--\r\n"
_TIMEOUT_S = 60.0
_LOOK_AGAIN_S = 0.005


@dataclass(frozen=True, slots=True)
class BatchUploads:
    """Makes batches for one gateway, every image new in content, and counts the accepted ones in its broker."""

    port: int
    tokens: Sequence[str]
    picture: bytes
    reader: Reader
    numbers: Iterator[int]

    def request(self, token: str) -> list[bytes]:
        """Return the next request, in parts."""
        parts = [_field("timestamp", b"2026-05-01T12:00:00Z")]
        for _ in range(IMAGES):
            number = next(self.numbers)
            parts.append(_head("images", f'; filename="{number}.jpg"'))
            parts.extend((*numbered(self.picture, number), b"\r\n"))
        parts.append(_END)
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nX-API-Token: {token}\r\n"
            f"Content-Type: multipart/form-data; boundary={_BOUNDARY.decode()}\r\n"
            f"Content-Length: {sum(map(len, parts))}\r\n\r\n"
        )
        return [head.encode(), *parts]

    async def accepted(self) -> int:
        """Return how many frames of batches are in the broker."""
        return sum(end for _, end in (await self.reader.bounds(FRAMES_BACKFILL)).values())


@asynccontextmanager
async def batch_uploads(
    place: Home, port: int, tokens: Sequence[str], picture: bytes, start: int
) -> AsyncIterator[BatchUploads]:
    """Yield batches of the devices of ``tokens`` for the gateway at ``port``, numbered from ``start`` on."""
    broker = EmbeddedBroker(embedded_file(place.folder), load_topics())
    reader = await broker.reader()
    try:
        yield BatchUploads(port, tokens, picture, reader, count(start))
    finally:
        await reader.close()
        await broker.close()


async def send_batches(uploads: BatchUploads, batches: int) -> float:
    """Send ``batches`` at once, one device after the other; return accepted frames per second.

    The connections are closed when all frames are accepted: there is no detector to wait for.
    """
    requests = [uploads.request(uploads.tokens[number % len(uploads.tokens)]) for number in range(batches)]
    wanted = await uploads.accepted() + batches * IMAGES
    start = time.perf_counter()
    sending = [asyncio.create_task(_send(uploads.port, request)) for request in requests]
    try:
        while await uploads.accepted() < wanted:
            if time.perf_counter() - start > _TIMEOUT_S:
                raise BenchError(f"{batches} batches were not accepted within {_TIMEOUT_S:g} s")
            for task in sending:
                if task.done():
                    raise BenchError(f"the response to a batch was {task.result()[:300]!r}")
            await asyncio.sleep(_LOOK_AGAIN_S)
        return batches * IMAGES / (time.perf_counter() - start)
    finally:
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)


async def _send(port: int, request: Sequence[bytes]) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.writelines(request)
        await writer.drain()
        return await reader.read(1_000)
    finally:
        # A close would only end the sending side, and the gateway would go on waiting for detections.
        sending = writer.get_extra_info("socket")
        if sending is not None:
            sending.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


def _head(name: str, more: str = "") -> bytes:
    return b'--%s\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n' % (_BOUNDARY, name.encode(), more.encode())


def _field(name: str, value: bytes) -> bytes:
    return _head(name) + value + b"\r\n"
