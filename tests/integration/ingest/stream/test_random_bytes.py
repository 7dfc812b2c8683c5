"""Streams with random damage are closed: the gateway logs no error, and keeps neither memory nor tasks of them."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.frames import Frame, Opcode

from ingest.settings import GatewaySettings
from ingest.stream.settings import StreamSettings
from schemas.frame_messages import SUBPROTOCOL
from standgale.testing.waiting import until
from tests.harnesses.stream_client import frame, open_stream
from tests.servers.gateway import TOKEN, Gateway, jpeg, running

SMALL = jpeg(256, 256)
HANDSHAKE = (
    "GET /api/v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\nX-API-Token: {TOKEN}\r\n\r\n"
).encode()


def _masked(opcode: Opcode, data: bytes, final: bool = True) -> bytes:
    return Frame(opcode, data, final).serialize(mask=True)


def _conversation(chosen: random.Random) -> tuple[bytes, bytes]:
    """Return a hello, and what follows it, with damage."""
    hello = _masked(Opcode.TEXT, b'{"type":"hello","session":"s%d"}' % chosen.randrange(4))
    parts = []
    for number in range(1, chosen.randrange(2, 7)):
        message, cut = frame(number, SMALL), chosen.randrange(1, 5_000)
        kinds = (
            _masked(Opcode.BINARY, message),
            _masked(Opcode.BINARY, message[:cut], False) + _masked(Opcode.CONT, message[cut:]),
            _masked(Opcode.PING, bytes(chosen.randrange(126))),
            _masked(Opcode.TEXT, b'{"type":"bye"}'),
        )
        parts.append(chosen.choices(kinds, (7, 2, 1, 1))[0])
    data = bytearray(b"".join(parts))
    for _ in range(chosen.choice((0, 1, 1, 3))):
        at = chosen.randrange(len(data))
        damage = (bytes([chosen.randrange(256)]), b"", chosen.randbytes(20))[chosen.randrange(3)]
        data[at : at + chosen.randrange(1, 30)] = damage
    return hello, bytes(data[: chosen.randrange(1, len(data))] if chosen.random() < 0.3 else data)


async def _talk(gateway: Gateway, seed: int) -> None:
    chosen = random.Random(seed)
    hello, rest = _conversation(chosen)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    with suppress(ConnectionError, TimeoutError, asyncio.IncompleteReadError):
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(hello)
        async with asyncio.timeout(0.2):
            await reader.read(100)
        while rest and not writer.transport.is_closing():
            size = chosen.choice((1, 90, 5_000, 100_000))
            writer.write(rest[:size])
            rest = rest[size:]
        async with asyncio.timeout(0.2):
            await reader.read()
    writer.transport.abort()


async def test_stream_with_random_damage_is_closed_without_a_trace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = StreamSettings(max_device_connections=64, hello_timeout_s=1.0, idle_timeout_s=2.0)
    async with running(tmp_path, GatewaySettings(body_timeout_s=1.0), stream=settings) as gateway:
        before = gateway.uploads.share("drone-1")
        await asyncio.gather(*(_talk(gateway, seed) for seed in range(60)))
        await until(lambda: gateway.uploads.share("drone-1") == before)
        await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name().startswith("stream-")])
        async with open_stream(gateway.port, session="another") as stream:
            await stream.send(1)
            assert await stream.answers(1) == [("ack", 1)]
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
