"""Requests of a connection have limits of size, number and time; each test sends bytes over a real socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from prometheus_client import REGISTRY
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.process import http_protocol
from infra.process.health import Health
from infra.process.http_server import HttpComponent
from infra.process.http_settings import HttpSettings

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
LIMITS = HttpSettings(
    max_header_bytes=2_000, max_headers=20, header_timeout_s=0.3, keep_alive_s=0.3, write_timeout_s=0.5
)


class Echo:
    """Responds with the number of bytes of the body; keeps what it was given."""

    def __init__(self) -> None:
        self.headers: list[list[tuple[bytes, bytes]]] = []
        self.release = asyncio.Event()
        self.release.set()
        self.reads_bodies = True
        self.response = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.headers.append(scope["headers"])
        size, more = 0, self.reads_bodies
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size, more = size + len(message["body"]), message["more_body"]
        await self.release.wait()
        body = self.response or str(size).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *pieces: bytes, pause_s: float = 0.0) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(pause_s)

    async def response(self) -> tuple[int, bytes]:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(head.split()[1]), await self.reader.readexactly(length)

    async def refusal(self) -> tuple[int, str]:
        status, body = await self.response()
        assert await self.closed()
        return status, str(orjson.loads(body)["error_code"])

    async def closed(self) -> bool:
        try:
            return await asyncio.wait_for(self.reader.read(), 5) == b""
        except ConnectionResetError:
            return True


class Site:
    def __init__(self, port: int, app: Echo) -> None:
        self.port, self.app = port, app
        self.clients: list[Client] = []

    async def connect(self, **options: Any) -> Client:
        self.clients.append(Client(*await asyncio.open_connection("127.0.0.1", self.port, **options)))
        return self.clients[-1]


@asynccontextmanager
async def serving(limits: HttpSettings = LIMITS, app: ASGIApp | None = None) -> AsyncIterator[Site]:
    echo = Echo()
    component = HttpComponent("limited", app or echo, host="127.0.0.1", port=0, http=limits, drain_timeout_s=2.0)
    port, stop = component.bind(), asyncio.Event()
    task = asyncio.create_task(component.run(stop, Health().part("limited")))
    site = Site(port, echo)
    try:
        yield site
    finally:
        echo.release.set()
        for client in site.clients:
            client.writer.close()
        stop.set()
        await asyncio.wait_for(task, 10)


@pytest.mark.parametrize("count", [1, 3])
async def test_a_client_that_ends_its_side_after_whole_requests_gets_the_responses(count: int) -> None:
    async with serving() as site:
        site.app.release.clear()
        client = await site.connect()
        await client.send((HEAD + b"Content-Length: 2\r\n\r\nok") * count)
        client.writer.write_eof()
        await asyncio.sleep(0.05)
        site.app.release.set()
        assert [await client.response() for _ in range(count)] == [(200, b"2")] * count
        assert await client.closed()


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_a_client_that_ended_its_side_is_probed_by_interim_responses(
    monkeypatch: pytest.MonkeyPatch, version: bytes
) -> None:
    monkeypatch.setattr(http_protocol, "_PROBE_S", 0.01)
    async with serving() as site:
        site.app.release.clear()
        client = await site.connect()
        await client.send(HEAD.replace(b"1.1", version) + b"Content-Length: 2\r\n\r\nok")
        client.writer.write_eof()
        interim = b"HTTP/1.1 100 Continue\r\n\r\n"
        if version == b"1.1":
            assert await asyncio.wait_for(client.reader.readexactly(2 * len(interim)), 5) == 2 * interim
        site.app.release.set()
        assert (await asyncio.wait_for(client.reader.read(), 5)).replace(interim, b"").startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("sent", [b"", HEAD, HEAD + b"Content-Length: 9\r\n\r\nok", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_client_that_ends_its_side_within_a_request_is_closed(sent: bytes) -> None:
    async with serving(HttpSettings(header_timeout_s=60, keep_alive_s=60)) as site:
        client = await site.connect()
        await client.send(sent)
        client.writer.write_eof()
        assert await client.closed()


async def test_a_client_that_ends_its_side_during_a_response_is_closed() -> None:
    left = asyncio.Event()

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"event", "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass
            left.set()

    async with serving(app=stream) as site:
        client = await site.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.reader.readuntil(b"event")
        client.writer.write_eof()
        await asyncio.wait_for(left.wait(), 2)


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("standgale_http_refused_total", {"server": "limited", "reason": reason}) or 0.0


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (HEAD + b"A: " + b"a" * 3_000 + b"\r\n\r\n", 431, "HEADERS_TOO_LARGE"),
        (HEAD + b"a" * 300_000, 431, "HEADERS_TOO_LARGE"),
        (HEAD + b"A: 1\r\n" * 30 + b"\r\n", 431, "HEADERS_TOO_LARGE"),
        (b"GET /" + b"a" * 3_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431, "HEADERS_TOO_LARGE"),
        (b"\r\n" * 100_000, 431, "HEADERS_TOO_LARGE"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + b"A: 1\r\n" * 30, 431, "HEADERS_TOO_LARGE"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 3_000, 400, "CHUNKS_TOO_SMALL"),
        (b"this is not HTTP\r\n\r\n", 400, "BAD_REQUEST"),
        (b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BAD_REQUEST"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", 400, "BAD_REQUEST"),
    ],
)
async def test_a_request_beyond_its_limits_gets_one_clear_response(sent: bytes, status: int, code: str) -> None:
    async with serving() as site:
        client = await site.connect()
        await client.send(sent)
        assert await client.refusal() == (status, code)


@pytest.mark.parametrize(
    "before", [b"", b"Transfer-Encoding: chunked\r\n\r\n1;", b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: "]
)
async def test_endless_headers_extensions_and_trailers_are_cut_off_early(before: bytes) -> None:
    async with serving(LIMITS.model_copy(update={"header_timeout_s": 30.0})) as site:
        client = await site.connect()
        sent = 0
        await client.send(HEAD + before)
        with pytest.raises(ConnectionError):
            for _ in range(1_000):
                await client.send(b"a" * 50_000)
                sent += 50_000
                await asyncio.sleep(0.001)
        assert sent < 20_000_000
    assert refused("headers_too_large") > 0


async def test_a_head_that_takes_too_long_gets_408_however_often_bytes_come() -> None:
    async with serving() as site:
        half, silent, drip = [await site.connect() for _ in range(3)]
        await half.send(HEAD)
        dripping = asyncio.create_task(drip.send(*(bytes((one,)) for one in HEAD + b"A: " + b"a" * 100), pause_s=0.05))
        assert [await one.refusal() for one in (half, silent, drip)] == [(408, "HEADER_TIMEOUT")] * 3
        dripping.cancel()


async def test_bytes_after_a_response_do_not_keep_a_connection_open() -> None:
    async with serving() as site:
        client = await site.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await client.response() == (200, b"0")
        await client.send(b"\r\n")
        assert await client.refusal() == (408, "HEADER_TIMEOUT")


async def test_an_idle_connection_is_closed_after_keep_alive_s() -> None:
    async with serving() as site:
        client = await site.connect()
        for _ in range(2):
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await client.response() == (200, b"0")
        assert await client.closed()


async def test_a_slow_request_and_a_slow_body_are_left_to_the_app() -> None:
    async with serving() as site:
        client = await site.connect()
        await client.send(HEAD + b"Content-Length: 8\r\n\r\n", *([b"ab"] * 4), pause_s=0.2)
        assert await client.response() == (200, b"8")


async def test_requests_sent_far_ahead_end_the_connection() -> None:
    async with serving() as site:
        site.app.release.clear()
        client = await site.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        assert await client.closed()
        assert len(site.app.headers) == 1
    assert refused("too_many_requests_ahead") > 0


async def test_trailers_reach_no_app() -> None:
    async with serving() as site:
        client = await site.connect()
        await client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-API-Token: t\r\n\r\n")
        assert await client.response() == (200, b"1")
        assert site.app.headers == [[(b"host", b"x"), (b"transfer-encoding", b"chunked")]]


async def test_a_wish_for_websockets_is_served_as_plain_http(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as site:
        client = await site.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert (await client.response())[0] == 200
    assert "pgrade" not in caplog.text


@pytest.mark.parametrize("ends_its_side", [False, True])
async def test_a_client_that_reads_nothing_of_its_response_is_cut_off(ends_its_side: bool) -> None:
    before = refused("not_reading")
    async with serving() as site:
        site.app.response = b"x" * 20_000_000
        client = await site.connect(limit=1_000)
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        if ends_its_side:
            client.writer.write_eof()
        for _ in range(80):
            await asyncio.sleep(0.05)
            if refused("not_reading") > before:
                break
        else:
            raise AssertionError("the connection is still open after 4 s, with a write_timeout_s of 0.5")


async def test_half_open_connections_make_room_for_others_and_requests_never_do() -> None:
    limits = LIMITS.model_copy(update={"max_connections": 4, "address_share": 1.0, "header_timeout_s": 30.0})
    async with serving(limits) as site:
        site.app.release.clear()
        busy = await site.connect()
        await busy.send(HEAD + b"Content-Length: 0\r\n\r\n")
        half = [await site.connect() for _ in range(3)]
        for one in half:
            await one.send(HEAD)
        late = await site.connect()
        assert await half[0].closed()
        await late.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        for one in half[1:]:
            await one.send(b"Content-Length: 0\r\n\r\n")
        await asyncio.sleep(0.1)
        surplus = await site.connect()
        assert await surplus.refusal() == (503, "TOO_MANY_CONNECTIONS")
        site.app.release.set()
        assert [await one.response() for one in (busy, late, *half[1:])] == [(200, b"0")] * 4


async def test_one_address_leaves_connections_for_others() -> None:
    limits = LIMITS.model_copy(update={"max_connections": 4, "address_share": 0.5})
    async with serving(limits) as site:
        site.app.release.clear()
        for _ in range(2):
            await (await site.connect()).send(HEAD + b"Content-Length: 0\r\n\r\n")
        await asyncio.sleep(0.1)
        assert await (await site.connect()).refusal() == (503, "TOO_MANY_CONNECTIONS")
        other = await site.connect(local_addr=("127.0.0.2", 0))
        await other.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        site.app.release.set()
        assert await other.response() == (200, b"0")


async def test_refusals_are_logged_a_few_times_and_then_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with serving() as site:
        for _ in range(20):
            client = await site.connect()
            await client.send(b"this is not HTTP\r\n\r\n")
            assert (await client.refusal())[0] == 400
    assert 0 < sum("refused a request from 127.0.0.1" in message for message in caplog.messages) <= 5


async def test_a_stream_whose_client_reads_nothing_ends_although_buffers_take_more() -> None:
    ended = asyncio.Event()

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        gone = asyncio.create_task(receive())
        while not gone.done():
            sending = asyncio.create_task(send({"type": "http.response.body", "body": b"x" * 8_000, "more_body": True}))
            await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0.002)
        ended.set()

    async with serving(app=stream) as site:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            client.connect(("127.0.0.1", site.port))
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.wait_for(ended.wait(), 10)
