"""Pieces of a response are written at once, in order with what is sent, and never where the protocol forbids it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from starlette.types import Message, Receive, Scope, Send

from infra.process.direct_writes import direct_write_of, framed_piece
from infra.process.health import Health
from infra.process.http_server import HttpComponent


class Streaming:
    """Responds with pieces that are sent and written in turns, and keeps whether each write was taken."""

    def __init__(self) -> None:
        self.taken: list[bool] = []
        self.done = asyncio.Event()
        self.fills = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        write = direct_write_of(scope)
        assert write is not None
        self.taken.append(write(framed_piece(b"before the head")))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(3):
            await send(_body(b"sent %d\n" % number))
            self.taken.append(write(framed_piece(b"written %d\n" % number)))
        if self.fills:
            piece = framed_piece(b"x" * 100_000)
            while write(piece):
                pass
            self.taken.append(False)
            self.done.set()
            await receive()
            await receive()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        self.taken.append(write(framed_piece(b"after the end")))
        self.done.set()


def _body(data: bytes) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": True}


@asynccontextmanager
async def serving(app: Streaming) -> AsyncIterator[int]:
    server, stop = HttpComponent("test", app, host="127.0.0.1", port=0, drain_timeout_s=1), asyncio.Event()
    port = server.bind()
    task = asyncio.create_task(server.run(stop, Health().part("test")))
    try:
        yield port
    finally:
        stop.set()
        await task


async def test_write_piece_keeps_the_order_of_what_is_sent_and_written() -> None:
    app = Streaming()
    async with serving(app) as port, aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{port}/") as response:
            text = await response.text()
        await asyncio.wait_for(app.done.wait(), 5)
    assert text == "".join(f"sent {number}\nwritten {number}\n" for number in range(3))
    assert app.taken == [False, True, True, True, False]


async def test_write_piece_writes_nothing_in_a_response_to_head() -> None:
    app = Streaming()
    async with serving(app) as port, aiohttp.ClientSession() as http:
        async with http.head(f"http://127.0.0.1:{port}/") as response:
            assert response.status == 200
        await asyncio.wait_for(app.done.wait(), 5)
    assert app.taken == [False] * 5


async def test_write_piece_is_refused_while_the_client_takes_nothing() -> None:
    app = Streaming()
    app.fills = True
    async with serving(app) as port:
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(app.done.wait(), 10)
        client.close()
    assert app.taken[:5] == [False, True, True, True, False]
