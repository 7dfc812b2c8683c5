"""Sends frames over WebSockets, on each as many at once as the gateway's credits allow.

A plain protocol, as in :mod:`bench.uploads`; its masks are zero, because the masking would cost a client of the same
machine more than the gateway's unmasking, which is done all the same.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import cast

import orjson

from bench.pictures import numbered
from bench.processes import BenchError
from bench.uploads import settle
from schemas.frame_messages import FRAME, HEAD, STREAM_PATH, ZEROS
from schemas.timestamps import format_utc

_START = datetime(2026, 5, 1, tzinfo=UTC)
_HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    "Sec-WebSocket-Protocol: standgale.frames.v1\r\nX-API-Token: {token}\r\n\r\n"
)
_TEXT, _BINARY = 0x81, 0x82
_NO_MASK = bytes(4)


@dataclass(frozen=True, slots=True)
class Streams:
    """Makes frames for one gateway, each new in time and content."""

    port: int
    tokens: Sequence[str]
    """Of one device for each connection"""
    picture: bytes
    numbers: Iterator[int]

    def message(self, sequence: int) -> list[bytes]:
        """Return the WebSocket frame of the next picture, in parts."""
        number = next(self.numbers)
        image = numbered(self.picture, number)
        size = sum(map(len, image))
        fields = orjson.dumps({"captured_at": format_utc(_START + timedelta(milliseconds=number))})
        header = HEAD.pack(FRAME, ZEROS, len(fields), size, sequence)
        length = len(header) + len(fields) + size
        return [_head(_BINARY, length), header, fields, *image]


class _Client(asyncio.Protocol):
    """Uses one connection until ``left`` is used up and all its frames are acknowledged."""

    def __init__(self, streams: Streams, token: str, left: Iterator[object], most: int) -> None:
        self._streams = streams
        self._token = token
        self._left = left
        self._most = most
        self._window = 0
        self._sent = self._acknowledged = 0
        self._is_open = self._is_empty = False
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        handshake = _HANDSHAKE.format(path=STREAM_PATH, port=self._streams.port, token=self._token)
        hello = b'{"type":"hello"}'
        self._transport.write(handshake.encode())
        self._hello = _head(_TEXT, len(hello)) + hello

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._received += data
        if not self._is_open:
            head, separator, rest = self._received.partition(b"\r\n\r\n")
            if not separator:
                return
            if b" 101 " not in head:
                self._end(BenchError(f"the response to a handshake was {head[:300]!r}"))
                return
            self._is_open, self._received = True, rest
            self._transport.write(self._hello)
        while (message := self._message()) is not None:
            self._take(message)
        while not self._is_empty and self._sent - self._acknowledged < min(self._window, self._most):
            if next(self._left, None) is None:
                self._is_empty = True
                break
            self._sent += 1
            self._transport.writelines(self._streams.message(self._sent))
        if self._is_empty and self._sent == self._acknowledged:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(BenchError(f"the gateway closed a stream: {exc}"))

    def _take(self, message: bytes) -> None:
        if b'"type":"ack"' in message:
            self._acknowledged += 1
            return
        text = orjson.loads(message)
        if text["type"] in ("welcome", "credits"):
            self._window = text.get("credits", text)["frames"]
        else:
            self._end(BenchError(f"the answer to a frame was {message[:300]!r}"))

    def _message(self) -> bytes | None:
        """Return the next message of the gateway, without its head, or None."""
        data = self._received
        if len(data) < 4:
            return None
        if data[0] != _TEXT:
            self._end(BenchError(f"the gateway sent {data[:130]!r}"))
            return None
        start, length = (2, data[1]) if data[1] < 126 else (4, int.from_bytes(data[2:4], "big"))
        if len(data) < start + length:
            return None
        self._received = data[start + length :]
        return data[start : start + length]

    def _end(self, error: BenchError | None) -> None:
        settle(self.done, error)
        if self._transport is not None:
            self._transport.abort()


def new_streams(port: int, tokens: Sequence[str], picture: bytes, start: int) -> Streams:
    """Return streams whose frames are numbered from ``start`` on."""
    return Streams(port, tokens, picture, count(start))


async def send_streams(streams: Streams, frames: int, connections: int, most: int) -> float:
    """Send ``frames`` over ``connections``, at most ``most`` at once on each; return acknowledged frames per second."""
    loop = asyncio.get_running_loop()
    left: Iterator[object] = iter(range(frames))
    start = time.perf_counter()
    clients = []
    for number in range(connections):
        token = streams.tokens[number % len(streams.tokens)]
        _, client = await loop.create_connection(
            lambda token=token: _Client(streams, token, left, most),  # type: ignore[misc]
            "127.0.0.1",
            streams.port,
        )
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    return frames / (time.perf_counter() - start)


def _head(kind: int, length: int) -> bytes:
    if length < 126:
        return bytes((kind, 0x80 | length)) + _NO_MASK
    if length < 1 << 16:
        return struct.pack(">BBH", kind, 0xFE, length) + _NO_MASK
    return struct.pack(">BBQ", kind, 0xFF, length) + _NO_MASK
