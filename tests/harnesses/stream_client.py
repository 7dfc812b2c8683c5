"""Speaks the protocol of /api/v1/stream step by step, so that tests can do what no client should."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from schemas.frame_messages import SUBPROTOCOL, frame_message
from schemas.timestamps import format_utc
from tests.servers.gateway import FRAME, TOKEN

_FIRST = datetime(2026, 5, 1, tzinfo=UTC)


def moment(number: int) -> str:
    return format_utc(_FIRST + timedelta(milliseconds=number))


def frame(sequence: int, image: bytes = FRAME, **fields: Any) -> bytes:
    """Return the message of a frame; each number is another frame, because it has another time."""
    text = json.dumps({"captured_at": moment(sequence), **fields}).encode()
    return frame_message(sequence, text, image)


@dataclass
class Stream:
    socket: ClientConnection
    welcome: dict[str, Any]

    async def send(self, *sequences: int) -> None:
        for sequence in sequences:
            await self.socket.send(frame(sequence))

    async def receive(self) -> dict[str, Any]:
        """Return the next message that is no change of credits."""
        while True:
            message: dict[str, Any] = json.loads(await asyncio.wait_for(self.socket.recv(), 20))
            if message["type"] != "credits":
                return message

    async def answers(self, count: int) -> list[tuple[str, int]]:
        found = [await self.receive() for _ in range(count)]
        return [(message["type"], message["sequence"]) for message in found]

    async def closed(self) -> tuple[int, str]:
        """Return the code and the reason of the close, which comes next or after further answers."""
        try:
            async with asyncio.timeout(20):
                while True:
                    await self.socket.recv()
        except ConnectionClosed as closed:
            received = closed.rcvd
            assert received is not None, "the connection was lost without a close"
            return received.code, received.reason


@asynccontextmanager
async def open_socket(
    port: int, token: str | None = TOKEN, subprotocol: str | None = SUBPROTOCOL, **options: Any
) -> AsyncIterator[ClientConnection]:
    headers = {"X-API-Token": token} if token else {}
    async with connect(
        f"ws://127.0.0.1:{port}/api/v1/stream",
        additional_headers={**headers, **options.pop("headers", {})},
        subprotocols=[Subprotocol(subprotocol)] if subprotocol else None,
        max_size=None,
        close_timeout=1,
        **options,
    ) as socket:
        yield socket


@asynccontextmanager
async def open_stream(port: int, session: str = "s1", **hello: Any) -> AsyncIterator[Stream]:
    async with open_socket(port) as socket:
        await socket.send(json.dumps({"type": "hello", "session": session, **hello}))
        yield Stream(socket, json.loads(await asyncio.wait_for(socket.recv(), 20)))
