"""Handshakes and connections at the level of bytes: what is no WebSocket gets a response, and silence ends one."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest

from infra.process.http_settings import HttpSettings
from schemas.frame_messages import SUBPROTOCOL
from tests.harnesses.stream_client import open_stream
from tests.servers.gateway import TOKEN, Gateway, running

HEAD = (
    "{method} /api/v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: {upgrade}\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: {key}\r\nX-API-Token: {token}\r\n"
    "Sec-WebSocket-Protocol: " + SUBPROTOCOL + "\r\n{more}\r\n"
)
KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
HELLO = b'\x81\x90\0\0\0\0{"type":"hello"}'


async def _response(gateway: Gateway, body: bytes = b"", **parts: str) -> bytes:
    """Return all that the gateway sends until it closes, or for half a second."""
    usual = {"method": "GET", "upgrade": "websocket", "version": "13", "key": KEY, "more": "", "token": TOKEN}
    head = HEAD.format(**(usual | parts))
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    received = b""
    try:
        writer.write(head.encode() + body)
        async with asyncio.timeout(0.5):
            while piece := await reader.read(4_096):
                received += piece
    except TimeoutError:
        pass
    finally:
        writer.close()
    return received


async def test_stream_handshakes_that_are_none_get_a_response(gateway: Gateway) -> None:
    assert (await _response(gateway)).startswith(b"HTTP/1.1 101")
    assert (await _response(gateway, version="8")).startswith(b"HTTP/1.1 400")
    assert (await _response(gateway, key="short")).startswith(b"HTTP/1.1 400")
    assert (await _response(gateway, method="POST")).startswith(b"HTTP/1.1 4")
    assert (await _response(gateway, more=f"X-Long: {'x' * 9_000}\r\n")).startswith(b"HTTP/1.1 4")
    assert (await _response(gateway, more=f"X-Long: {'x' * 70_000}\r\n")).startswith(b"HTTP/1.1 431")
    # Another protocol than WebSocket: the request is an ordinary one.
    assert (await _response(gateway, upgrade="h2c")).startswith(b"HTTP/1.1 426")
    # Sent before the response: it may not be lost in silence.
    assert (await _response(gateway, HELLO)).startswith(b"HTTP/1.1 400")
    assert gateway.streams.places.has_room


@pytest.mark.parametrize(
    ("parts", "status", "said"),
    [
        ({"version": "8"}, b"400", b"Sec-WebSocket-Version header: 8"),
        ({"key": "short"}, b"400", b"Sec-WebSocket-Key header: short"),
    ],
)
async def test_stream_wrong_handshake_gets_an_error_body_and_the_version(
    gateway: Gateway, parts: dict[str, str], status: bytes, said: bytes
) -> None:
    head, _, body = (await _response(gateway, **parts)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status)
    assert b"content-type: application/json" in head
    assert b"sec-websocket-version: 13" in head
    error = json.loads(body)
    assert (error["status"], error["error_code"]) == ("error", "BAD_REQUEST")
    assert said.decode() in error["message"]


async def test_stream_refused_handshakes_write_no_errors(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    assert b"401" in await _response(gateway, token="stg_wrong")
    assert b"403" in await _response(gateway, more="Origin: https://other.example\r\n")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("path", ["/api/v1/frames", "/api/v1/streams", "/stream"])
async def test_stream_other_paths_have_no_websockets(gateway: Gateway, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = HEAD.format(method="GET", upgrade="websocket", version="13", key=KEY, more="", token=TOKEN)
    writer.write(head.replace("/api/v1/stream", path).encode())
    response = await asyncio.wait_for(reader.read(), 5)
    assert response.startswith(b"HTTP/1.1 404")
    assert b'"error_code":"NOT_FOUND"' in response
    assert b"/api/v1/stream;" in response
    writer.close()


async def test_stream_client_that_ignores_pings_is_closed(tmp_path: Path) -> None:
    async with (
        running(tmp_path, http=HttpSettings(ping_interval_s=0.2)) as gateway,
        open_stream(gateway.port) as stream,
    ):
        received = await _response(gateway)
        # A ping of four bytes, then a close with 1011.
        assert b"\x89\x04" in received and b"\x03\xf3no answer to a ping" in received
        # The library of the other client answers pings.
        await stream.send(1)
        assert await stream.answers(1) == [("ack", 1)]


async def test_stream_connections_count_for_the_server_until_they_end(gateway: Gateway) -> None:
    async with open_stream(gateway.port) as stream:
        await stream.send(1)
        await stream.answers(1)
        assert len(gateway.streams._open) == 1
        stream.socket.transport.abort()
        async with asyncio.timeout(5):
            while gateway.streams._open:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
