"""The gateway over real HTTP, with a real folder and the embedded broker behind it: what it takes and refuses."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fastapi.openapi.models import OpenAPI
from PIL import Image

from infra.broker.embedded import writer
from infra.broker.embedded.file.connection import open_writer
from infra.errors import (
    BrokerUnavailableError,
    RecordTooLargeError,
    RefusedError,
    SettingsError,
    TopicMismatchError,
)
from infra.storage.frames.folder import FolderFrameStore
from ingest.gateway import GatewayParts, create_gateway
from ingest.settings import GatewaySettings
from schemas.cloudevents import decode, header
from schemas.events import FrameCaptured
from schemas.ids import frame_id
from tests.support_gateway import FRAME, PATH, TOKEN, WHEN, Answer, Gateway, Tokens, jpeg, running

pytestmark = pytest.mark.integration

HUGE = b"\xff\xd8\xff\xc0\x00\x11\x08\xc3\x50\xc3\x50\x03\x01\x11\x00\x02\x11\x00\x03\x11\x00"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path) as started:
        yield started


def assert_error(answer: Answer, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    """The one error body, in full."""
    assert (answer.status, answer.json["error_code"]) == (status, code), answer.body
    headers = {name.lower(): value for name, value in answer.headers.items()}
    body: dict[str, Any] = answer.json
    assert body["status"] == "error"
    assert body["message"]
    assert body["request_id"] == headers["x-request-id"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", body["timestamp"])
    assert headers["x-api-version"] == "1.0"
    assert body.get("field") == field
    if status == 503:
        assert 1 <= int(headers["retry-after"]) <= 5
    return body


async def assert_nothing_came_of_it(gateway: Gateway) -> None:
    assert gateway.stored() == []
    assert await gateway.records() == []


async def test_a_frame_is_stored_announced_and_accepted(gateway: Gateway) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = await gateway.send(
        params={"captured_at": WHEN, "altitude_m": "80", "metadata": '{"mission": "north"}'},
        headers={"traceparent": parent, "X-Standgale-Original-Filename": "DJI_1.JPG", "X-Request-ID": "my-id"},
    )
    assert answer.status == 202
    assert answer.headers["X-Request-ID"] == "my-id"
    digest = sha256(FRAME).hexdigest()
    identity = frame_id("drone-1", datetime(2026, 1, 31, 12, tzinfo=UTC), digest)
    assert answer.json["frame_id"] == str(identity)
    assert answer.json["status"] == "accepted"
    assert answer.json["image"] == {
        "sha256": digest,
        "size_bytes": len(FRAME),
        "media_type": "image/jpeg",
        "width": 320,
        "height": 272,
    }
    assert answer.json["links"] == {"detections": "http://stream/api/v1/detections/stream?device=drone-1"}

    assert [path.read_bytes() for path in gateway.stored()] == [FRAME]
    (record,) = await gateway.records()
    event = decode(record.headers, record.value, FrameCaptured)
    assert record.key == event.device_id == "drone-1"
    assert header(record.headers, "ce_id") == str(event.frame_id) == str(identity)
    assert header(record.headers, "traceparent") == parent
    assert event.image.sha256 == digest
    assert event.image.uri.startswith("file:")
    assert event.camera is not None
    assert event.camera.altitude_m == 80
    assert event.metadata == {"mission": "north"}
    assert event.original_filename == "DJI_1.JPG"


async def test_the_same_frame_twice_is_one_frame(gateway: Gateway) -> None:
    first, second = await gateway.send(), await gateway.send(headers={"Authorization": f"Bearer {TOKEN}"}, token=None)
    assert first.status == second.status == 202
    assert first.json["frame_id"] == second.json["frame_id"]
    assert len(gateway.stored()) == 1
    ids = [header(record.headers, "ce_id") for record in await gateway.records()]
    assert ids == [first.json["frame_id"]] * 2


async def test_a_form_is_the_same_frame(gateway: Gateway) -> None:
    form = aiohttp.FormData(quote_fields=False)
    form.add_field("captured_at", WHEN)
    form.add_field("metadata", "{}")
    form.add_field("image", FRAME, filename="../../a.jpg", content_type="text/plain")
    answer = await gateway.send(form, params={})
    assert answer.status == 202
    assert answer.json["frame_id"] == (await gateway.send()).json["frame_id"]
    (form_record, _) = await gateway.records()
    assert decode(form_record.headers, form_record.value, FrameCaptured).original_filename == "a.jpg"


async def test_a_large_form_too(gateway: Gateway) -> None:
    image = jpeg(2000, 1500)
    assert len(image) > 1 << 20
    form = aiohttp.FormData()
    form.add_field("captured_at", WHEN)
    form.add_field("image", image, filename="a.jpg")
    answer = await gateway.send(form, params={})
    assert answer.json["image"]["sha256"] == sha256(image).hexdigest()


async def test_capture_time_and_geometry_come_from_the_picture(gateway: Gateway) -> None:
    tags = Image.Exif()
    tags[0x010F] = "DJI"
    tags.get_ifd(0x8769).update({0x9003: "2026:01:31 14:00:00", 0x9011: "+02:00", 0x920A: 8.8})
    out = io.BytesIO()
    Image.new("RGB", (320, 320)).save(out, "JPEG", exif=tags)
    answer = await gateway.send(out.getvalue(), params={"altitude_m": "60"})
    assert answer.json["captured_at"] == WHEN
    (record,) = await gateway.records()
    camera = decode(record.headers, record.value, FrameCaptured).camera
    assert camera is not None
    assert (camera.focal_length_mm, camera.altitude_m) == (8.8, 60.0)


async def test_without_a_good_token_nothing_goes_in(gateway: Gateway) -> None:
    cases: list[tuple[dict[str, str], str]] = [
        ({}, "no device token"),
        ({"X-API-Token": "whd_wrong_0123456789"}, "not valid"),
        ({"Authorization": "Bearer whd_wrong_0123456789"}, "not valid"),
        ({"Authorization": f"Basic {TOKEN}"}, "no device token"),
        ({"X-API-Token": " "}, "no device token"),
    ]
    answers = await asyncio.gather(*(gateway.send(token=None, headers=headers) for headers, _ in cases))
    for answer, (_, why) in zip(answers, cases, strict=True):
        assert why in assert_error(answer, 401, "UNAUTHORIZED")["message"]
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    await assert_nothing_came_of_it(gateway)


async def test_a_revoked_token_stops_at_once(gateway: Gateway) -> None:
    assert (await gateway.send()).status == 202
    del gateway.tokens.known[TOKEN]
    assert_error(await gateway.send(jpeg(seed=2)), 401, "UNAUTHORIZED")
    assert len(gateway.stored()) == len(await gateway.records()) == 1


async def test_without_a_token_the_body_is_not_read(gateway: Gateway) -> None:
    """The answer comes before a byte of the body was asked for, and then the connection ends."""
    head = "Content-Type: image/jpeg\r\nContent-Length: 5000000\r\nExpect: 100-continue\r\n"
    raw = await gateway.raw(head)
    answer = await raw.answer()
    assert_error(answer, 401, "UNAUTHORIZED")
    assert answer.headers["connection"] == "close"
    assert await raw.closed()


async def test_without_a_token_the_answer_arrives_though_the_client_is_still_sending(gateway: Gateway) -> None:
    raw = await gateway.raw("Content-Type: image/jpeg\r\nContent-Length: 5000000\r\n", bytes(20_000))
    assert_error(await raw.answer(), 401, "UNAUTHORIZED")
    assert await raw.closed()


async def test_without_a_token_receive_is_never_called(gateway: Gateway) -> None:
    parts = GatewayParts(GatewaySettings(), Tokens(), FolderFrameStore(gateway.frames), gateway.publisher)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "headers": [(b"content-length", b"10")],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("x", 80),
        "client": ("y", 1),
        "root_path": "",
    }
    await create_gateway(parts)(scope, receive, send)  # type: ignore[arg-type]  # a plain dict is a scope
    assert sent[0]["status"] == 401


async def test_content_that_is_no_frame_is_refused(gateway: Gateway) -> None:
    cases = [
        (b"", "INVALID_FORMAT", "empty"),
        (b"just a text, renamed to .jpg", "INVALID_FORMAT", "not an image"),
        (FRAME[: len(FRAME) // 2], "CORRUPTED_FILE", "cut off"),
        (HUGE, "INVALID_DIMENSIONS", "50000x50000"),
        (jpeg(255, 300), "INVALID_DIMENSIONS", "min_side_px"),
    ]
    for data, code, why in cases:
        assert why in assert_error(await gateway.send(data), 400, code, "image")["message"]
    await assert_nothing_came_of_it(gateway)
    assert (await gateway.send()).status == 202


async def test_eleven_megabytes_are_refused_unread(gateway: Gateway) -> None:
    raw = await gateway.raw(f"X-API-Token: {TOKEN}\r\nContent-Length: 11000000\r\nExpect: 100-continue\r\n")
    answer = await raw.answer()
    assert_error(answer, 400, "FILE_TOO_LARGE", "image")
    assert await raw.closed()
    await assert_nothing_came_of_it(gateway)


async def test_eleven_megabytes_without_a_length_are_refused_at_the_limit(gateway: Gateway) -> None:
    raw = await gateway.raw(f"X-API-Token: {TOKEN}\r\nTransfer-Encoding: chunked\r\n")
    piece = b"80000\r\n" + bytes(0x80000) + b"\r\n"

    async def flood() -> None:
        try:
            for _ in range(21):
                raw.writer.write(piece)
                await raw.writer.drain()
        except ConnectionError:
            return

    _, answer = await asyncio.gather(flood(), raw.answer())
    assert_error(answer, 400, "FILE_TOO_LARGE", "image")
    await assert_nothing_came_of_it(gateway)


async def test_eleven_megabytes_from_an_ordinary_client(gateway: Gateway) -> None:
    form = aiohttp.FormData()
    form.add_field("image", bytes(11_000_000), filename="a.jpg")
    for data in (bytes(11_000_000), form):
        assert_error(await gateway.send(data), 400, "FILE_TOO_LARGE", "image")
    await assert_nothing_came_of_it(gateway)


async def test_wrong_parameters_are_refused_by_name(gateway: Gateway) -> None:
    cases: list[tuple[dict[str, str], str, str]] = [
        ({"captured_at": "2099-01-01T00:00:00Z"}, "INVALID_CAPTURE_TIME", "captured_at"),
        ({"captured_at": "noon"}, "INVALID_CAPTURE_TIME", "captured_at"),
        ({}, "INVALID_CAPTURE_TIME", "captured_at"),
        ({"captured_at": WHEN, "altitude": "80"}, "VALIDATION_ERROR", "altitude"),
        ({"captured_at": WHEN, "metadata": "[]"}, "VALIDATION_ERROR", "metadata"),
        ({"captured_at": WHEN, "heading_deg": "400"}, "VALIDATION_ERROR", "heading_deg"),
    ]
    for params, code, named in cases:
        assert_error(await gateway.send(params=params), 400, code, named)
    await assert_nothing_came_of_it(gateway)


async def test_unknown_fields_of_a_form_are_refused_with_the_known_ones(gateway: Gateway) -> None:
    form = aiohttp.FormData()
    form.add_field("image", FRAME, filename="a.jpg")
    form.add_field("alttude_m", "80")
    body = assert_error(await gateway.send(form), 400, "VALIDATION_ERROR", "alttude_m")
    assert "altitude_m" in body["details"]
    await assert_nothing_came_of_it(gateway)


async def test_a_clock_a_little_ahead_is_tolerated(gateway: Gateway) -> None:
    ahead = datetime.now(UTC) + timedelta(seconds=gateway.settings.max_clock_skew_s / 2)
    assert (await gateway.send(params={"captured_at": ahead.isoformat()})).status == 202


async def test_a_wrong_clock_of_the_gateway_refuses_no_frame_and_gives_no_wrong_time(gateway: Gateway) -> None:
    """The gateway's clock is 8 days behind; the device's and the broker's are right."""
    right = datetime.now(UTC) + timedelta(days=8)
    gateway.publisher.ahead_s = timedelta(days=8).total_seconds()
    assert (await gateway.send(jpeg(seed=7))).status == 202
    answer = await gateway.send(params={"captured_at": right.isoformat()})
    assert answer.status == 202
    received_at = datetime.fromisoformat(answer.json["received_at"])
    assert timedelta(0) <= received_at - right < timedelta(minutes=2)
    assert "behind the broker's" in (gateway.health.report().parts["broker"].note or "")
    assert_error(
        await gateway.send(params={"captured_at": (right + timedelta(hours=1)).isoformat()}),
        400,
        "INVALID_CAPTURE_TIME",
        "captured_at",
    )


async def test_before_the_clocks_are_compared_a_frame_from_the_future_is_told_to_come_again(tmp_path: Path) -> None:
    async with running(tmp_path, ahead_s=None) as gateway:
        late = {"captured_at": (datetime.now(UTC) + timedelta(days=8)).isoformat()}
        assert_error(await gateway.send(params=late), 503, "BROKER_UNAVAILABLE")
        # The broker does not tell its time, so from now on only the own clock counts.
        assert (await gateway.send()).status == 202
        assert_error(await gateway.send(params=late), 400, "INVALID_CAPTURE_TIME", "captured_at")


async def test_a_content_type_without_an_image_is_refused(gateway: Gateway) -> None:
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/mixed"):
        answer = await gateway.send(headers={"Content-Type": kind})
        assert_error(answer, 415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type")
    await assert_nothing_came_of_it(gateway)


async def test_another_device_s_frame_is_refused(gateway: Gateway) -> None:
    assert_error(await gateway.send(params={"device_id": "drone-2"}), 403, "ACCESS_DENIED", "device_id")
    form = aiohttp.FormData()
    form.add_field("image", FRAME, filename="a.jpg")
    form.add_field("device_id", "drone-2")
    assert_error(await gateway.send(form), 403, "ACCESS_DENIED", "device_id")
    await assert_nothing_came_of_it(gateway)
    own = await gateway.send(params={"device_id": "drone-1", "captured_at": WHEN})
    assert own.status == 202


async def test_the_broker_away_is_503_and_nothing_is_announced(gateway: Gateway) -> None:
    gateway.publisher.fault = BrokerUnavailableError("kafka-7.internal:9092 refused the connection")
    answer = await gateway.send()
    assert_error(answer, 503, "BROKER_UNAVAILABLE")
    assert b"kafka-7" not in answer.body
    assert await gateway.records() == []
    gateway.publisher.fault = None
    assert (await gateway.send()).status == 202
    assert len(await gateway.records()) == 1


async def test_a_broker_that_does_not_answer_is_503(tmp_path: Path) -> None:
    async with running(tmp_path, GatewaySettings(publish_timeout_s=0.1)) as gateway:
        gateway.publisher.hang = True
        assert_error(await gateway.send(), 503, "BROKER_UNAVAILABLE")


async def test_the_store_away_is_503_and_nothing_is_announced(gateway: Gateway) -> None:
    away = gateway.frames.rename(gateway.frames.with_name("unmounted"))
    answer = await gateway.send()
    assert_error(answer, 503, "STORAGE_UNAVAILABLE")
    assert str(gateway.frames).encode() not in answer.body
    assert await gateway.records() == []
    away.rename(gateway.frames)
    assert (await gateway.send()).status == 202


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (RefusedError("Kafka at kafka-7.internal does not allow publishing: user gw, password hunter2"), "REFUSED"),
        (TopicMismatchError("kafka-7.internal has no topic frames.live"), "TOPIC_MISMATCH"),
        (SettingsError("broker.sasl_password: hunter2 at kafka-7.internal"), "INVALID_SETTING"),
        (OSError("kafka-7.internal: no space left"), "UNAVAILABLE"),
    ],
)
async def test_whatever_an_operator_can_mend_is_503_and_not_ready(
    gateway: Gateway, fault: Exception, code: str
) -> None:
    assert (await gateway.send()).status == 202
    assert gateway.health.report().ready
    gateway.publisher.fault = fault
    answer = await gateway.send()
    assert_error(answer, 503, code)
    assert b"kafka-7" not in answer.body
    assert b"hunter2" not in answer.body
    assert gateway.health.report().parts["broker"].reason == code
    gateway.publisher.fault = None
    assert (await gateway.send()).status == 202
    assert gateway.health.report().ready


async def test_a_frame_that_is_too_large_for_its_topic_says_nothing_about_the_broker(gateway: Gateway) -> None:
    assert (await gateway.send()).status == 202
    gateway.publisher.fault = RecordTooLargeError("2 MB")
    assert_error(await gateway.send(), 500, "INTERNAL_ERROR")
    assert gateway.health.report().ready


async def test_a_store_that_fails_or_hangs_is_not_ready_until_a_frame_was_kept(tmp_path: Path) -> None:
    async with running(tmp_path, GatewaySettings(store_timeout_s=0.2)) as gateway:
        assert (await gateway.send()).status == 202
        away = gateway.frames.rename(gateway.frames.with_name("unmounted"))
        assert_error(await gateway.send(jpeg(seed=4)), 503, "STORAGE_UNAVAILABLE")
        assert gateway.health.report().parts["store"].reason == "STORAGE_UNAVAILABLE"
        away.rename(gateway.frames)
        assert (await gateway.send()).status == 202
        assert gateway.health.report().ready
        gateway.store.hang = True
        assert_error(await gateway.send(jpeg(seed=5)), 503, "STORAGE_UNAVAILABLE")
        assert not gateway.health.report().ready


async def test_a_full_store_is_503_with_the_reason_and_not_ready(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-S1-112: the store is full, here by a setting that is larger than any disk."""
    assert (await gateway.send()).status == 202
    full = FolderFrameStore(gateway.frames, min_free_bytes=2**62)
    monkeypatch.setattr(gateway.store, "_room", full._space)
    body = assert_error(await gateway.send(jpeg(seed=2)), 503, "STORAGE_FULL")
    assert "full" in body["message"]
    assert gateway.health.report().parts["store"].reason == "STORAGE_FULL"
    monkeypatch.undo()
    assert (await gateway.send(jpeg(seed=2))).status == 202
    assert gateway.health.report().ready
    await full.close()


async def test_a_full_disk_under_the_broker_is_not_ready_until_a_frame_was_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each POST is 503 while small records, such as a probe's, still fit: not ready all the while."""
    pages = 1_000_000
    opened: list[sqlite3.Connection] = []

    def limited(path: Path, *, create: bool) -> sqlite3.Connection:
        opened.append(open_writer(path, create=create))
        opened[-1].execute(f"PRAGMA max_page_count = {pages}")
        return opened[-1]

    monkeypatch.setattr(writer, "open_writer", limited)
    settings = GatewaySettings(probe_interval_s=0.02, recovery_s=60)
    padded = {"captured_at": WHEN, "metadata": json.dumps({"pad": "x" * 10_000})}
    async with running(tmp_path, settings, probed=True) as gateway:
        assert (await gateway.send()).status == 202
        pages = 1  # SQLite takes it for: no more than there are
        opened[-1].execute("PRAGMA max_page_count = 1")
        for seed in range(5):
            assert_error(await gateway.send(jpeg(seed=seed), params=padded), 503, "BROKER_UNAVAILABLE")
            await asyncio.sleep(0.1)
            assert gateway.health.report().parts["broker"].reason == "BROKER_UNAVAILABLE"
        pages = 1_000_000
        # A connection that was opened meanwhile fails once more, and is then opened anew.
        assert 202 in [(await gateway.send(params=padded)).status for _ in range(2)]
        assert gateway.health.report().ready


async def test_tokens_not_known_yet_is_503_not_401(gateway: Gateway) -> None:
    gateway.tokens.away = True
    answer = await gateway.send()
    assert_error(answer, 503, "DATABASE_UNAVAILABLE")
    assert b"secret-host" not in answer.body
    await assert_nothing_came_of_it(gateway)


async def test_uploads_beyond_the_bound_wait_outside(tmp_path: Path) -> None:
    async with running(tmp_path, GatewaySettings(max_concurrent_uploads=1)) as gateway:
        raw = await gateway.raw(f"X-API-Token: {TOKEN}\r\nContent-Length: {len(FRAME)}\r\n", FRAME[:1000])
        await _until(lambda: _refused(gateway))
        raw.writer.write(FRAME[1000:])
        assert (await raw.answer()).status == 202
        assert (await gateway.send()).status == 202


async def test_bytes_beyond_the_bound_wait_outside(tmp_path: Path) -> None:
    settings = GatewaySettings(max_image_bytes=200_000, max_in_flight_bytes=600_000)
    async with running(tmp_path, settings) as gateway:
        # A body of unknown length may have any, so three of them hold all the bytes there are.
        head = f"X-API-Token: {TOKEN}\r\nTransfer-Encoding: chunked\r\n"
        held = [await gateway.raw(head, b"1\r\n\xff\r\n") for _ in range(3)]
        await _until(lambda: _refused(gateway))
        held[0].writer.close()
        await _until(lambda: _taken(gateway))
        for raw in held:
            raw.writer.close()


async def _refused(gateway: Gateway) -> bool:
    answer = await gateway.send()
    if answer.status == 503:
        assert_error(answer, 503, "OVERLOADED")
    return answer.status == 503


async def _taken(gateway: Gateway) -> bool:
    return (await gateway.send()).status == 202


async def _until(check: Callable[[], Any]) -> None:
    """Ask again until ``check`` says yes; each question is a request of its own."""
    for _ in range(500):
        if await check():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came true")


async def test_a_body_that_trickles_is_cut_off(tmp_path: Path) -> None:
    async with running(tmp_path, GatewaySettings(body_timeout_s=0.2)) as gateway:
        raw = await gateway.raw(f"X-API-Token: {TOKEN}\r\nContent-Length: 1000\r\n", b"\xff")
        assert_error(await raw.answer(), 408, "UPLOAD_TIMEOUT")
        assert await raw.closed()


async def test_a_client_that_goes_away_leaves_nothing(gateway: Gateway) -> None:
    raw = await gateway.raw(f"X-API-Token: {TOKEN}\r\nContent-Length: {len(FRAME)}\r\n", FRAME[:-1])
    raw.writer.close()
    assert (await gateway.send(jpeg(seed=3))).status == 202
    assert len(gateway.stored()) == len(await gateway.records()) == 1


async def test_a_fault_of_the_gateway_tells_nothing_of_its_inside(gateway: Gateway) -> None:
    gateway.publisher.fault = RuntimeError("password=hunter2")
    answer = await gateway.send()
    assert_error(answer, 500, "INTERNAL_ERROR")
    assert b"hunter2" not in answer.body


async def test_the_framework_s_own_refusals_have_the_same_body(gateway: Gateway) -> None:
    assert_error(await gateway.send(b"", method="GET", path="/nowhere"), 404, "NOT_FOUND")
    wrong_method = await gateway.send(b"", method="GET")
    assert_error(wrong_method, 405, "METHOD_NOT_ALLOWED")
    assert wrong_method.headers["Allow"] == "POST"


async def test_request_ids_are_kept_when_sane(gateway: Gateway) -> None:
    assert (await gateway.send(headers={"X-Request-ID": "edge-7.2"})).headers["X-Request-ID"] == "edge-7.2"
    made = (await gateway.send(headers={"X-Request-ID": "a b;<script>"})).headers["X-Request-ID"]
    assert made.startswith("req")


async def test_tokens_never_reach_a_log(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await gateway.send()
    await gateway.send(token="whd_wrong_0123456789")
    gateway.publisher.fault = RuntimeError("broken")
    await gateway.send(headers={"Authorization": f"Bearer {TOKEN}"}, token=None)
    assert caplog.text
    assert TOKEN not in caplog.text
    assert "whd_wrong" not in caplog.text


async def test_health_and_metrics(gateway: Gateway) -> None:
    assert (await gateway.send()).status == 202
    healthy = await gateway.send(b"", method="GET", path="/api/v1/health", token=None, params={})
    assert healthy.status == 200
    assert healthy.json["status"] == "healthy"
    gateway.health.part("broker").set_not_ready("kafka-7.internal refused")
    ill = await gateway.send(b"", method="GET", path="/api/v1/health", token=None, params={})
    assert ill.status == 503
    assert ill.json["parts"] == {"store": "ready", "broker": "not ready", "gateway": "ready"}
    metrics = await gateway.send(b"", method="GET", path="/api/v1/metrics", token=None, params={})
    assert re.search(r'images_stored_total\{device_id="drone-1"\} [1-9]', metrics.body.decode())
    assert 'http_requests_total{endpoint="/api/v1/frames",method="POST",status="202"}' in metrics.body.decode()


async def test_cors_is_for_the_origins_in_the_settings(tmp_path: Path) -> None:
    async with running(tmp_path, GatewaySettings(cors_origins=("https://map.example",))) as gateway:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "X-API-Token"}
        friend = {"Origin": "https://map.example"}
        allowed = await gateway.send(b"", method="OPTIONS", headers=friend | asked)
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://map.example"
        refused = await gateway.send(b"", method="OPTIONS", headers={"Origin": "https://evil.example"} | asked)
        assert "Access-Control-Allow-Origin" not in refused.headers
        unauthorized = await gateway.send(token=None, headers=friend)
        assert unauthorized.status == 401
        assert unauthorized.headers["Access-Control-Allow-Origin"] == "https://map.example"


async def test_the_api_describes_itself(gateway: Gateway) -> None:
    page = await gateway.send(b"", method="GET", path="/docs", token=None, params={})
    assert page.status == 200
    document = (await gateway.send(b"", method="GET", path="/openapi.json", token=None, params={})).json
    OpenAPI.model_validate(document)
    operation = document["paths"][PATH]["post"]
    assert {"image/jpeg", "multipart/form-data"} <= set(operation["requestBody"]["content"])
    assert set(operation["responses"]) == {"202", "400", "401", "403", "408", "415", "503"}
    examples = operation["responses"]["400"]["content"]["application/json"]["examples"]
    assert {"INVALID_FORMAT", "FILE_TOO_LARGE", "INVALID_DIMENSIONS", "CORRUPTED_FILE"} <= set(examples)
    names = {parameter["name"] for parameter in operation["parameters"]}
    assert {"device_id", "captured_at", "altitude_m", "metadata"} <= names
    for reference in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)):
        assert reference in document["components"]["schemas"]


async def test_settings_that_contradict_each_other_are_refused(gateway: Gateway) -> None:
    parts = GatewayParts(GatewaySettings(), gateway.tokens, FolderFrameStore(gateway.frames), gateway.publisher)
    with pytest.raises(Exception, match="max_in_flight_bytes"):
        create_gateway(replace(parts, settings=GatewaySettings(max_in_flight_bytes=1_000_000)))
