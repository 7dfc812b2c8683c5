"""Frames that are accepted: stored, published, and the same with every way of sending."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

import aiohttp

from schemas.cloudevents import decode, header
from schemas.events import FrameCaptured
from schemas.ids import frame_id
from schemas.topics import FRAMES_BACKFILL
from tests.photographs import exif_block, exif_segment, extended_segments, packet, photograph, xmp_segment
from tests.photographs import jpeg as jpeg_of
from tests.servers.gateway import FRAME, TOKEN, WHEN, Gateway, jpeg

SIZE = (320, 320)


async def test_a_frame_is_stored_announced_and_accepted(gateway: Gateway) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    response = await gateway.send(
        params={"captured_at": WHEN, "altitude_m": "80", "metadata": '{"mission": "north"}'},
        headers={"traceparent": parent, "X-Standgale-Original-Filename": "DJI_1.JPG", "X-Request-ID": "my-id"},
    )
    assert response.status == 202
    assert response.headers["X-Request-ID"] == "my-id"
    digest = sha256(FRAME).hexdigest()
    identity = frame_id("drone-1", datetime(2026, 1, 31, 12, tzinfo=UTC), digest)
    assert response.json["frame_id"] == str(identity)
    assert response.json["status"] == "accepted"
    assert response.json["image"] == {
        "sha256": digest,
        "size_bytes": len(FRAME),
        "media_type": "image/jpeg",
        "width": 320,
        "height": 272,
    }
    assert response.json["links"] == {"detections": "http://stream/api/v1/detections/stream?device=drone-1"}

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


async def test_a_frame_that_may_wait_is_no_live_frame(gateway: Gateway) -> None:
    sent = await gateway.send(params={"captured_at": WHEN, "priority": "backfill"})
    (record,) = await gateway.records(FRAMES_BACKFILL)
    assert header(record.headers, "ce_id") == sent.json["frame_id"]
    assert await gateway.records() == []


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
    response = await gateway.send(form, params={})
    assert response.status == 202
    assert response.json["frame_id"] == (await gateway.send()).json["frame_id"]
    (form_record, _) = await gateway.records()
    assert decode(form_record.headers, form_record.value, FrameCaptured).original_filename == "a.jpg"


async def test_a_large_form_too(gateway: Gateway) -> None:
    image = jpeg(2000, 1500)
    assert len(image) > 1 << 20
    form = aiohttp.FormData()
    form.add_field("captured_at", WHEN)
    form.add_field("image", image, filename="a.jpg")
    response = await gateway.send(form, params={})
    assert response.json["image"]["sha256"] == sha256(image).hexdigest()


async def test_capture_time_and_geometry_come_from_the_picture(gateway: Gateway) -> None:
    image = photograph({0x9003: "2026:01:31 14:00:00", 0x9011: "+0200", 0x920A: 8.8}, size=SIZE)
    response = await gateway.send(image, params={"altitude_m": "60"})
    assert response.json["captured_at"] == WHEN
    assert response.json["warnings"] == []
    (record,) = await gateway.records()
    camera = decode(record.headers, record.value, FrameCaptured).camera
    assert camera is not None
    assert (camera.focal_length_mm, camera.altitude_m) == (8.8, 60.0)


async def test_warnings_name_assumptions_that_the_request_does_not_replace(gateway: Gateway) -> None:
    xmp = packet('drone-dji:RelativeAltitude="+250.0" drone-dji:AbsoluteAltitude="250.0"')
    image = photograph({0x9003: "2026:01:31 12:00:00"}, xmp=xmp, size=SIZE)
    response = await gateway.send(image, params={})
    assert response.json["captured_at"] == WHEN
    height, time = sorted(response.json["warnings"], key=lambda text: "capture time" in text)
    assert "equals that above the sea" in height
    assert "read as UTC" in time
    given = await gateway.send(image, params={"captured_at": WHEN, "altitude_m": "60"})
    assert given.json["warnings"] == []


async def test_a_missing_capture_time_is_refused_with_its_reason(gateway: Gateway) -> None:
    response = await gateway.send(photograph({0x9003: "2026:13:45 12:00:00"}, size=SIZE), params={})
    assert response.status == 400
    assert "'2026:13:45 12:00:00'" in response.json["details"]


async def test_long_xmp_is_read_too(gateway: Gateway) -> None:
    guid = b"0123456789ABCDEF0123456789ABCDEF"
    text = packet('drone-dji:RelativeAltitude="+50"', f"<drone-dji:Data>{'A' * 100_000}</drone-dji:Data>").encode()
    named = xmp_segment(packet(f'drone-dji:Extended="{guid.decode()}"'))
    exif = exif_segment(exif_block({0x9003: "2026:01:31 12:00:00Z"}))
    response = await gateway.send(jpeg_of(exif, named, *extended_segments(guid, text), size=SIZE), params={})
    assert response.json["warnings"] == []
    (record,) = await gateway.records()
    camera = decode(record.headers, record.value, FrameCaptured).camera
    assert camera is not None
    assert camera.altitude_m == 50.0
