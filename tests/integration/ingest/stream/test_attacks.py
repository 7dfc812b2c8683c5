"""Hostile clients of the stream: each costs little memory and time, is closed with its code, and hurts nobody else."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from websockets.frames import Frame, Opcode

from ingest.settings import GatewaySettings
from ingest.stream.settings import StreamSettings
from tests.harnesses.stream_client import Stream, frame, open_socket, open_stream
from tests.servers.gateway import FRAME, TOKEN, Gateway, running

HEADER = struct.Struct(">B3xIIQ")


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[Gateway]:
    """Runs a gateway with short limits of time."""
    settings = GatewaySettings(body_timeout_s=0.5, token_refresh_s=0.1, publish_timeout_s=0.5)
    limits = StreamSettings(hello_timeout_s=0.5, idle_timeout_s=1.5, memory_timeout_s=0.5, max_device_connections=2)
    async with running(tmp_path, settings, stream=limits) as started:
        yield started


async def _works(gateway: Gateway) -> None:
    """Check that another client is served."""
    async with open_stream(gateway.port, session="another") as stream:
        await stream.send(1)
        assert await stream.answers(1) == [("ack", 1)]


WRONG_MESSAGES: list[tuple[bytes | str, str]] = [
    (b"", "a frame has 0 bytes"),
    (b"\1\0\0\0", "a frame has 4 bytes"),
    (HEADER.pack(2, 0, 4, 1) + b"JPEG", "must begin with"),
    (b"\1\0\0\1" + HEADER.pack(1, 0, 4, 1)[4:] + b"JPEG", "must begin with"),
    (HEADER.pack(1, 2**32 - 1, 2**32 - 1, 1) + b"{}JPEG", "the header says 4294967295"),
    (HEADER.pack(1, 2, 5, 1) + b"{}JPEG", "the header says 2 + 5"),
    (HEADER.pack(1, 2, 4, 0) + b"{}JPEG", "a sequence number"),
    (HEADER.pack(1, 2, 4, 2**64 - 1) + b"{}JPEG", "a sequence number"),
    (HEADER.pack(1, 2, 4, 2) + b"{}JPEG", "frame 2 was sent where 1 must follow"),
    ("{", "not JSON"),
    ("[1]", "JSON object"),
    ('{"type": "hello"}', "a message of type 'hello'"),
    ('{"type": "bye", "more": 1}', "a message of type 'bye'"),
    ("[" * 10_000, "not JSON"),
]


async def test_stream_wrong_messages_close_it(gateway: Gateway) -> None:
    for number, (message, reason) in enumerate(WRONG_MESSAGES):
        async with open_stream(gateway.port, session=f"s{number}") as stream:
            await stream.socket.send(message)
            code, text = await stream.closed()
        assert (code, reason in text) == (4400, True), (message, text)


WRONG_HELLOS: list[str | bytes] = [
    "{}",
    "no",
    '{"type": "hello", "session": ""}',
    '{"type": "hello", "session": "../x"}',
    '{"type": "hello", "session": 5}',
    '{"type": "hello", "next": 0}',
    '{"type": "hello", "next": true}',
    '{"type": "hello", "next": 9007199254740992}',
    '{"type": "hello", "resume": 1}',
    '{"type": "hello", "nxt": 1}',
    '{"type": "hello", "token": []}',
    b"\1\0",
]


async def test_stream_wrong_hellos_close_it(gateway: Gateway) -> None:
    for hello in WRONG_HELLOS:
        async with open_socket(gateway.port) as socket:
            await socket.send(hello)
            assert (await Stream(socket, {}).closed())[0] == 4400, hello


async def test_stream_repeated_frame_closes_it(gateway: Gateway) -> None:
    async with open_stream(gateway.port) as stream:
        await stream.send(1, 1)
        assert (await stream.closed())[0] == 4400
    assert len(await gateway.records()) == 1


async def test_stream_frame_before_the_welcome_closes_it(gateway: Gateway) -> None:
    async with open_socket(gateway.port) as socket:
        await socket.send(json.dumps({"type": "hello"}))
        small = HEADER.pack(1, 2, 4, 1) + b"{}JPEG"
        await socket.send(small)
        code, _ = await Stream(socket, {}).closed()
    assert code == 4400


async def test_stream_messages_that_are_too_long_are_not_kept(gateway: Gateway) -> None:
    async with open_stream(gateway.port) as stream:
        # Only the head is sent: the length alone ends it.
        stream.socket.transport.write(b"\x82\xff" + struct.pack(">Q", 2**40) + b"\0\0\0\0")
        assert (await stream.closed())[0] == 1009
    async with open_stream(gateway.port, session="s2") as stream:
        await stream.socket.send("x" * 20_000)
        assert (await stream.closed())[0] == 1009
    async with open_socket(gateway.port) as socket:
        await socket.send(bytes(20_000))
        assert (await Stream(socket, {}).closed())[0] == 1009
    async with open_stream(gateway.port, session="s3") as stream:
        with pytest.raises(Exception, match="1009"):
            await stream.socket.send(bytes(100_000) for _ in range(120))  # type: ignore[arg-type]
            await stream.socket.recv()
    await _works(gateway)


INVALID_FRAMES = [
    # Text that is no UTF-8.
    (Frame(Opcode.TEXT, b"\xff\xfe").serialize(mask=True), 1007),
    # A ping of more than 125 bytes, and one in pieces.
    (b"\x89\xfe\x00\x80\0\0\0\0" + bytes(128), 1002),
    (b"\x09\x80\0\0\0\0", 1002),
    # Without a mask; with a reserved bit, as compression has; an opcode that does not exist.
    (b"\x82\x02ab", 1002),
    (b"\xc2\x80\0\0\0\0", 1002),
    (b"\x83\x80\0\0\0\0", 1002),
    # A continuation of nothing.
    (b"\x80\x80\0\0\0\0", 1002),
    # A flood of pings, and a message in a thousand empty pieces.
    (b"\x89\x80\0\0\0\0" * 500, 1008),
    (b"\x02\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 2_000, 1008),
]


async def test_stream_invalid_frames_close_it(gateway: Gateway) -> None:
    for number, (raw, code) in enumerate(INVALID_FRAMES):
        async with open_stream(gateway.port, session=f"s{number}") as stream:
            stream.socket.transport.write(raw)
            assert (await stream.closed())[0] == code, raw[:16]
    await _works(gateway)


async def test_stream_is_never_compressed(gateway: Gateway) -> None:
    async with open_socket(gateway.port, compression="deflate") as socket:
        assert socket.protocol.extensions == []


async def test_stream_client_that_ignores_credits_is_closed(strict: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    strict.publisher.hang = True
    async with open_stream(strict.port) as stream:
        most = stream.welcome["credits"]["frames"]
        for number in range(1, 40):
            stream.socket.transport.write(Frame(Opcode.BINARY, frame(number)).serialize(mask=True))
        code, reason = await stream.closed()
    assert code == 4429 and f"{most + 1} frames" in reason
    strict.publisher.hang = False
    await _works(strict)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_stream_frames_before_a_broken_message_are_published(gateway: Gateway) -> None:
    inner, going_on = gateway.publisher.inner.publish, asyncio.Event()

    async def publish_later(records: object) -> None:
        await going_on.wait()
        await inner(records)

    gateway.publisher.inner.publish = publish_later
    async with open_stream(gateway.port) as stream:
        await stream.send(1, 2, 3)
        stream.socket.transport.write(Frame(Opcode.TEXT, b"\xff").serialize(mask=True))
        assert (await stream.closed())[0] == 1007
        going_on.set()
    # It was closed before the acknowledgements, which the next connection gets.
    async with open_stream(gateway.port, next=1, resume=True) as stream:
        assert stream.welcome["next"] == 4
        assert await stream.answers(3) == [("ack", 1), ("ack", 2), ("ack", 3)]
    assert len(await gateway.records()) == 3


async def test_stream_slow_clients_are_closed(strict: Gateway) -> None:
    async with open_socket(strict.port) as socket:
        assert (await Stream(socket, {}).closed())[0] == 4408
    async with open_stream(strict.port) as stream:
        stream.socket.transport.write(Frame(Opcode.BINARY, frame(1)).serialize(mask=True)[:1000])
        assert (await stream.closed())[0] == 4408
    async with open_stream(strict.port, session="s2") as stream:
        code, reason = await stream.closed()
        assert code == 4408 and "stream.idle_timeout_s" in reason


async def test_stream_is_closed_when_its_token_is_revoked(strict: Gateway) -> None:
    async with open_stream(strict.port) as stream:
        await stream.send(1)
        assert await stream.answers(1) == [("ack", 1)]
        strict.tokens.known.clear()
        assert (await stream.closed())[0] == 4401


async def test_stream_handshakes_without_right_are_refused(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    async def status(**options: object) -> int:
        with pytest.raises(Exception) as caught:
            async with open_socket(gateway.port, **options):  # type: ignore[arg-type]
                pass
        return int(caught.value.response.status_code)

    assert await status(token="stg_wrong") == 401
    assert await status(subprotocol=None) == 400
    assert await status(subprotocol="standgale.frames.v9") == 400
    assert await status(headers={"Origin": "https://evil.example"}) == 403
    assert [record.getMessage() for record in caplog.records if record.name == "standgale.websocket"] == []
    async with open_socket(gateway.port, headers={"Origin": f"http://127.0.0.1:{gateway.port}"}):
        pass
    async with open_socket(gateway.port, token=None) as socket:
        await socket.send('{"type": "hello", "token": "stg_wrong"}')
        assert (await Stream(socket, {}).closed())[0] == 4401


async def test_stream_ordinary_request_gets_426(gateway: Gateway) -> None:
    response = await gateway.send(method="GET", path="/api/v1/stream", data=None)
    assert (response.status, response.json["error_code"]) == (426, "UPGRADE_REQUIRED")
    assert response.headers["Upgrade"] == "websocket"


async def test_stream_connections_of_a_device_are_limited(strict: Gateway) -> None:
    async with (
        open_stream(strict.port, session="a"),
        open_stream(strict.port, session="b"),
        open_socket(strict.port) as socket,
    ):
        await socket.send('{"type": "hello", "session": "c"}')
        assert (await Stream(socket, {}).closed())[0] == 4429


async def test_stream_connections_are_limited_in_total(tmp_path: Path) -> None:
    limits = StreamSettings(max_connections=1, max_device_connections=1)
    async with running(tmp_path, stream=limits) as gateway, open_stream(gateway.port):
        with pytest.raises(Exception, match="503"):
            async with open_socket(gateway.port):
                pass


async def test_stream_clients_without_a_token_take_no_place_of_devices(tmp_path: Path) -> None:
    async with running(tmp_path, stream=StreamSettings(max_connections=4)) as gateway, AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(open_socket(gateway.port, token=None)) for _ in range(8)]
        async with open_stream(gateway.port) as stream:
            await stream.send(1)
            assert await stream.answers(1) == [("ack", 1)]
        for socket in silent[:-1]:
            assert (await Stream(socket, {}).closed())[0] == 1013
        await silent[-1].send(json.dumps({"type": "hello", "token": TOKEN}))
        assert json.loads(await silent[-1].recv())["type"] == "welcome"


async def test_stream_devices_without_a_hello_take_no_place_of_others(tmp_path: Path) -> None:
    async with running(tmp_path, stream=StreamSettings(max_connections=4)) as gateway, AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(open_socket(gateway.port)) for _ in range(6)]
        async with open_stream(gateway.port) as stream:
            await stream.send(1)
            assert await stream.answers(1) == [("ack", 1)]
        assert [(await Stream(socket, {}).closed())[0] for socket in silent[:3]] == [1013] * 3


async def test_stream_frame_waits_unread_while_there_is_no_memory(tmp_path: Path) -> None:
    settings = GatewaySettings(max_concurrent_uploads=2)
    async with running(tmp_path, settings, stream=StreamSettings(memory_timeout_s=1.0)) as gateway:
        slots = [gateway.uploads.take(1, f"device-{number}") for number in range(2)]
        async with open_stream(gateway.port) as stream:
            assert stream.welcome["credits"]["frames"] == 1
            await stream.send(1)
            await asyncio.sleep(0.2)
            gateway.uploads.give_back(slots.pop())
            assert await stream.answers(1) == [("ack", 1)]
            slots.append(gateway.uploads.take(1, "device-9"))
            await stream.send(2)
            assert (await stream.closed())[0] == 1013
        async with open_stream(gateway.port, next=2, resume=True) as stream:
            gateway.uploads.give_back(slots.pop())
            await stream.send(2)
            assert await stream.answers(1) == [("ack", 2)]


async def test_stream_memory_is_given_back_after_every_end(gateway: Gateway) -> None:
    before = gateway.uploads.share("drone-1")
    for message in (frame(1), frame(2), frame(1)[:-1], frame(1, image=b"none")):
        async with open_stream(gateway.port, session="leak") as stream:
            await stream.socket.send(message)
            await asyncio.sleep(0.05)
    async with open_stream(gateway.port, session="torn") as stream:
        stream.socket.transport.write(Frame(Opcode.BINARY, frame(1, image=FRAME)).serialize(mask=True)[:3000])
        await asyncio.sleep(0.05)
        stream.socket.transport.abort()
    async with asyncio.timeout(5):
        while gateway.uploads.share("drone-1") != before:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
