"""Frames by WebSocket: each is answered when it is durable, and all are published in order."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from infra.errors import BrokerUnavailableError
from ingest.limits.settings import LimitsSettings
from schemas.cloudevents import decode
from schemas.events import FrameCaptured
from schemas.timestamps import format_utc
from schemas.topics import FRAMES_BACKFILL, FRAMES_LIVE
from tests.harnesses.stream_client import frame, moment, open_socket, open_stream
from tests.servers.gateway import TOKEN, Gateway, running


async def _published(gateway: Gateway, topic: str = FRAMES_LIVE) -> list[str]:
    records = await gateway.records(topic)
    return [format_utc(decode(record.headers, record.value, FrameCaptured).captured_at) for record in records]


async def test_stream_acknowledges_durable_frames_in_order(gateway: Gateway) -> None:
    async with open_stream(gateway.port) as stream:
        assert stream.welcome["session"] == "s1" and stream.welcome["next"] == 1
        assert stream.welcome["credits"]["frames"] == 16
        await stream.send(*range(1, 11))
        acks = [await stream.receive() for _ in range(10)]
    assert [(ack["type"], ack["sequence"]) for ack in acks] == [("ack", number) for number in range(1, 11)]
    assert acks[0]["captured_at"] == moment(1) and acks[0]["frame_id"]
    assert await _published(gateway) == [moment(number) for number in range(1, 11)]
    assert len(gateway.stored()) == 1


async def test_stream_takes_the_fields_of_frames(gateway: Gateway) -> None:
    async with open_stream(gateway.port) as stream:
        message = frame(1, latitude=47.5, longitude="8.25", metadata={"mission": "north"}, original_filename="a.jpg")
        await stream.socket.send(message)
        assert (await stream.receive())["type"] == "ack"
    (record,) = await gateway.records()
    event = decode(record.headers, record.value, FrameCaptured)
    assert event.device_id == "drone-1" and event.metadata == {"mission": "north"}
    assert event.camera is not None and (event.camera.latitude, event.camera.longitude) == (47.5, 8.25)


async def test_stream_keeps_live_and_backfill_frames_in_order(gateway: Gateway) -> None:
    async with open_stream(gateway.port) as stream:
        for number in range(1, 9):
            await stream.socket.send(frame(number, priority="backfill" if number % 3 else "live", flight="f-1"))
        assert await stream.answers(8) == [("ack", number) for number in range(1, 9)]
    assert await _published(gateway) == [moment(3), moment(6)]
    assert await _published(gateway, FRAMES_BACKFILL) == [moment(number) for number in (1, 2, 4, 5, 7, 8)]


async def test_stream_refuses_a_frame_alone(gateway: Gateway) -> None:
    async with open_stream(gateway.port) as stream:
        wrong: list[dict[str, Any]] = []
        await stream.send(1)
        await stream.socket.send(frame(2, image=b"no picture"))
        await stream.socket.send(frame(3, altitude_of_nothing=1))
        await stream.socket.send(frame(4, device_id="drone-2"))
        await stream.socket.send(frame(5, metadata=[1]))
        await stream.send(6)
        wrong = [await stream.receive() for _ in range(6)]
    assert [message["type"] for message in wrong] == ["ack", "refused", "refused", "refused", "refused", "ack"]
    codes = [message.get("error_code") for message in wrong]
    assert codes == [None, "INVALID_FORMAT", "VALIDATION_ERROR", "ACCESS_DENIED", "VALIDATION_ERROR", None]
    assert await _published(gateway) == [moment(1), moment(6)]


async def test_stream_has_all_after_a_failed_frame_sent_again(gateway: Gateway) -> None:
    async with open_stream(gateway.port) as stream:
        await stream.send(1)
        assert await stream.answers(1) == [("ack", 1)]
        gateway.publisher.fault = BrokerUnavailableError("away")
        await stream.send(2, 3, 4)
        later = await stream.receive()
        assert (later["type"], later["sequence"], later["error_code"]) == ("later", 2, "BROKER_UNAVAILABLE")
        assert later["retry_after_s"] > 0
        gateway.publisher.fault = None
        # Sent before the client saw that: it is discarded.
        await stream.send(5)
        await stream.send(2, 3, 4, 5)
        assert await stream.answers(4) == [("ack", number) for number in range(2, 6)]
    assert await _published(gateway) == [moment(number) for number in range(1, 6)]


async def test_stream_frame_that_was_published_before_the_error_is_not_repeated(gateway: Gateway) -> None:
    inner = gateway.publisher.inner.publish

    async def publish_then_fail(records: Any) -> None:
        await inner(records)
        raise BrokerUnavailableError("the acknowledgement was lost")

    async with open_stream(gateway.port) as stream:
        gateway.publisher.inner.publish = publish_then_fail
        await stream.send(1, 2)
        assert (await stream.receive())["type"] == "later"
        gateway.publisher.inner.publish = inner
        await stream.send(1, 2, 3)
        assert await stream.answers(3) == [("ack", 1), ("ack", 2), ("ack", 3)]
    assert await _published(gateway) == [moment(1), moment(2), moment(3)]


async def test_stream_resumes_with_the_acknowledgements_that_were_lost(gateway: Gateway) -> None:
    async with open_stream(gateway.port) as stream:
        await stream.send(1)
        await stream.socket.send(frame(2, image=b"no picture"))
        await stream.send(3)
        first = [await stream.receive() for _ in range(3)]
    async with open_stream(gateway.port, next=2, resume=True) as again:
        assert again.welcome["next"] == 4
        assert [await again.receive(), await again.receive()] == first[1:]
        await again.send(4)
        assert await again.answers(1) == [("ack", 4)]
    assert await _published(gateway) == [moment(1), moment(3), moment(4)]


async def test_stream_session_that_is_not_known_repeats_nothing(gateway: Gateway) -> None:
    async with open_stream(gateway.port) as stream:
        await stream.send(1, 2, 3)
        await stream.answers(3)
    gateway.streams.sessions.forget("drone-1", "s1")
    async with open_stream(gateway.port, next=2, resume=True) as again:
        assert again.welcome["next"] == 2
        await again.send(2, 3, 4)
        assert await again.answers(3) == [("ack", 2), ("ack", 3), ("ack", 4)]
    assert await _published(gateway) == [moment(1), moment(2), moment(3), moment(4)]


async def test_stream_newer_connection_takes_a_session_over(gateway: Gateway) -> None:
    async with open_stream(gateway.port) as older:
        await older.send(1)
        await older.answers(1)
        async with open_stream(gateway.port, next=2) as newer:
            assert (await older.closed())[0] == 4409
            assert newer.welcome["next"] == 2
            await newer.send(2)
            assert await newer.answers(1) == [("ack", 2)]
    assert await _published(gateway) == [moment(1), moment(2)]


async def test_stream_takes_a_token_in_its_first_message(gateway: Gateway) -> None:
    async with open_socket(gateway.port, token=None) as socket:
        await socket.send(json.dumps({"type": "hello", "token": TOKEN}))
        welcome = json.loads(await socket.recv())
        assert welcome["type"] == "welcome" and len(welcome["session"]) == 32
        await socket.send(frame(1))
        assert json.loads(await socket.recv())["type"] == "ack"
        await socket.send(json.dumps({"type": "bye"}))
        await socket.wait_closed()
        assert socket.close_code == 1000
    assert len(gateway.streams.sessions) == 0


async def test_stream_takes_messages_in_several_frames(gateway: Gateway) -> None:
    async with open_stream(gateway.port) as stream:
        whole = frame(1)
        await stream.socket.send([whole[:7], whole[7:30], whole[30:5000], whole[5000:]])
        assert await stream.answers(1) == [("ack", 1)]


async def test_stream_acknowledges_frames_in_progress_at_a_stop(gateway: Gateway) -> None:
    inner, publishing, going_on = gateway.publisher.inner.publish, asyncio.Event(), asyncio.Event()

    async def publish_later(records: Any) -> None:
        publishing.set()
        await going_on.wait()
        await inner(records)

    gateway.publisher.inner.publish = publish_later
    async with open_stream(gateway.port) as stream:
        await stream.send(1, 2)
        await publishing.wait()
        gateway.streams.stop()
        await stream.send(3)
        await asyncio.sleep(0.05)
        going_on.set()
        assert await stream.answers(2) == [("ack", 1), ("ack", 2)]
        assert (await stream.closed())[0] == 1012
    assert await _published(gateway) == [moment(1), moment(2)]


async def test_stream_frames_count_as_requests_of_their_device(tmp_path: Path) -> None:
    async with running(tmp_path, limits=LimitsSettings(device_per_minute=4)) as gateway:
        async with open_stream(gateway.port) as stream:
            await stream.send(1, 2, 3, 4)
            assert await stream.answers(3) == [("ack", 1), ("ack", 2), ("ack", 3)]
            later = await stream.receive()
            assert (later["type"], later["sequence"], later["error_code"]) == ("later", 4, "RATE_LIMIT_EXCEEDED")
            assert later["retry_after_s"] >= 1
        response = await gateway.send()
        assert response.status == 429
