"""Wrong frames are refused with the reason, and nothing of them is kept."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp

from tests.jpeg_files import scan_bomb
from tests.servers.gateway import FRAME, TOKEN, WHEN, Gateway, jpeg, running
from tests.servers.gateway_checks import HUGE, assert_error, assert_nothing_stored


async def test_content_that_is_no_frame_is_refused(gateway: Gateway) -> None:
    cases = [
        (b"", "INVALID_FORMAT", "empty"),
        (b"just a text, renamed to .jpg", "INVALID_FORMAT", "not an image"),
        (FRAME[: len(FRAME) // 2], "CORRUPTED_FILE", "cut off"),
        (HUGE, "INVALID_DIMENSIONS", "50000x50000"),
        (jpeg(255, 300), "INVALID_DIMENSIONS", "min_side_px"),
        (scan_bomb(9_600, 9_600, 20_000), "TOO_COSTLY", "scans of 9600×9600 px"),
        (b"GIF89a" + bytes(900), "INVALID_FORMAT", "this is a GIF picture"),
    ]
    for data, code, why in cases:
        assert why in assert_error(await gateway.send(data), 400, code, "image")["message"]
    await assert_nothing_stored(gateway)
    assert (await gateway.send()).status == 202


async def test_eleven_megabytes_are_refused_unread(gateway: Gateway) -> None:
    raw = await gateway.raw(f"X-API-Token: {TOKEN}\r\nContent-Length: 11000000\r\nExpect: 100-continue\r\n")
    response = await raw.read_response()
    assert_error(response, 400, "FILE_TOO_LARGE", "image")
    assert "POST /api/v1/originals" in response.json["details"]
    assert await raw.closed()
    await assert_nothing_stored(gateway)


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

    _, response = await asyncio.gather(flood(), raw.read_response())
    assert_error(response, 400, "FILE_TOO_LARGE", "image")
    await assert_nothing_stored(gateway)


async def test_eleven_megabytes_from_an_ordinary_client(gateway: Gateway) -> None:
    form = aiohttp.FormData()
    form.add_field("image", bytes(11_000_000), filename="a.jpg")
    for data in (bytes(11_000_000), form):
        refused = assert_error(await gateway.send(data), 400, "FILE_TOO_LARGE", "image")
        assert "at most 10000000 are accepted for the image (gateway.max_image_bytes)" in refused["message"]
    await assert_nothing_stored(gateway)


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
    await assert_nothing_stored(gateway)


async def test_unknown_fields_of_a_form_are_refused_with_the_known_ones(gateway: Gateway) -> None:
    form = aiohttp.FormData()
    form.add_field("image", FRAME, filename="a.jpg")
    form.add_field("alttude_m", "80")
    body = assert_error(await gateway.send(form), 400, "VALIDATION_ERROR", "alttude_m")
    assert "altitude_m" in body["details"]
    await assert_nothing_stored(gateway)


async def test_a_clock_a_little_ahead_is_tolerated(gateway: Gateway) -> None:
    ahead = datetime.now(UTC) + timedelta(seconds=gateway.settings.max_clock_skew_s / 2)
    assert (await gateway.send(params={"captured_at": ahead.isoformat()})).status == 202


async def test_a_wrong_clock_of_the_gateway_refuses_no_frame_and_gives_no_wrong_time(gateway: Gateway) -> None:
    """The gateway's clock is 8 days behind; the device's and the broker's are right."""
    right = datetime.now(UTC) + timedelta(days=8)
    gateway.publisher.ahead_s = timedelta(days=8).total_seconds()
    assert (await gateway.send(jpeg(seed=7))).status == 202
    response = await gateway.send(params={"captured_at": right.isoformat()})
    assert response.status == 202
    received_at = datetime.fromisoformat(response.json["received_at"])
    assert timedelta(0) <= received_at - right < timedelta(minutes=2)
    assert "behind the broker's" in (gateway.health.report().parts["broker"].note or "")
    assert_error(
        await gateway.send(params={"captured_at": (right + timedelta(hours=1)).isoformat()}),
        400,
        "INVALID_CAPTURE_TIME",
        "captured_at",
    )


async def test_future_frame_before_clock_comparison_is_503(tmp_path: Path) -> None:
    async with running(tmp_path, ahead_s=None) as gateway:
        late = {"captured_at": (datetime.now(UTC) + timedelta(days=8)).isoformat()}
        assert_error(await gateway.send(params=late), 503, "BROKER_UNAVAILABLE")
        # The broker does not report its time, so from now on only this machine's clock counts.
        assert (await gateway.send()).status == 202
        assert_error(await gateway.send(params=late), 400, "INVALID_CAPTURE_TIME", "captured_at")


async def test_a_content_type_without_an_image_is_refused(gateway: Gateway) -> None:
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/mixed"):
        response = await gateway.send(headers={"Content-Type": kind})
        assert_error(response, 415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type")
    await assert_nothing_stored(gateway)


async def test_gateway_error_response_has_no_internal_details(gateway: Gateway) -> None:
    gateway.publisher.fault = RuntimeError("password=hunter2")
    response = await gateway.send()
    assert_error(response, 500, "INTERNAL_ERROR")
    assert b"hunter2" not in response.body


async def test_framework_errors_have_the_same_error_body(gateway: Gateway) -> None:
    nowhere = assert_error(await gateway.send(b"", method="GET", path="/nowhere"), 404, "NOT_FOUND")
    assert nowhere["details"] == "/docs describes the paths and their methods"
    wrong_method = await gateway.send(b"", method="GET")
    assert_error(wrong_method, 405, "METHOD_NOT_ALLOWED")
    assert wrong_method.headers["Allow"] == "POST"


async def test_request_ids_are_kept_when_sane(gateway: Gateway) -> None:
    assert (await gateway.send(headers={"X-Request-ID": "edge-7.2"})).headers["X-Request-ID"] == "edge-7.2"
    made = (await gateway.send(headers={"X-Request-ID": "a b;<script>"})).headers["X-Request-ID"]
    assert made.startswith("req")
