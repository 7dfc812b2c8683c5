"""Sends frames over a number of keep-alive connections, on each one after the other.

A plain protocol rather than an HTTP library: on a machine of two cores a client that is heavier than the server would
measure itself.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import cast

from bench.pictures import numbered
from bench.processes import BenchError
from schemas.timestamps import format_utc

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_START = datetime(2026, 5, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Uploads:
    """Makes frames for one address, each new in time and content."""

    port: int
    path: str
    token: str
    picture: bytes
    numbers: Iterator[int]

    def request(self) -> list[bytes]:
        """Return the next request, in parts."""
        number = next(self.numbers)
        parts = numbered(self.picture, number)
        moment = format_utc(_START + timedelta(milliseconds=number))
        head = (
            f"POST {self.path}?captured_at={moment} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"X-API-Token: {self.token}\r\nContent-Type: image/jpeg\r\nContent-Length: {sum(map(len, parts))}\r\n\r\n"
        )
        return [head.encode(), *parts]


def settle(done: asyncio.Future[None], error: BenchError | None) -> None:
    """End ``done`` with ``error``, or without one, if it has not ended."""
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


class _Client(asyncio.Protocol):
    """Uses one connection: sends, waits for the whole response, sends again, until ``left`` is used up."""

    def __init__(self, uploads: Uploads, left: Iterator[object]) -> None:
        self._uploads = uploads
        self._left = left
        self._response = b""
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._response += data
        head, separator, body = self._response.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not separator or (length is not None and len(body) < int(length[1])):
            return
        if length is None or not head.startswith(b"HTTP/1.1 202"):
            self._end(BenchError(f"the response to an upload was {self._response[:500]!r}"))
            return
        self._response = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(BenchError(f"the server closed a connection: {exc}"))

    def _next(self) -> None:
        assert self._transport is not None
        if next(self._left, None) is None:
            self._end(None)
        else:
            self._transport.writelines(self._uploads.request())

    def _end(self, error: BenchError | None) -> None:
        settle(self.done, error)
        if self._transport is not None:
            self._transport.close()


def new_uploads(port: int, path: str, token: str, picture: bytes, start: int) -> Uploads:
    """Return uploads whose frames are numbered from ``start`` on; overlapping numbers give the same frames."""
    return Uploads(port, path, token, picture, count(start))


async def send(uploads: Uploads, frames: int, connections: int) -> float:
    """Send ``frames`` over ``connections``; return accepted frames per second. Raises BenchError otherwise."""
    loop = asyncio.get_running_loop()
    left: Iterator[object] = iter(range(frames))
    start = time.perf_counter()
    clients = [
        (await loop.create_connection(lambda: _Client(uploads, left), "127.0.0.1", uploads.port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.done for client in clients))
    return frames / (time.perf_counter() - start)
