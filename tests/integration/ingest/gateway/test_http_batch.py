"""POST /api/v1/detect/batch: a result or an error for each image, in the order sent (C-S1-008 to C-S1-015)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import UUID

import aiohttp
import pytest

from infra.errors import BrokerUnavailableError, ImageCorruptError, StoreFullError
from ingest.gateway.openapi.bodies import BatchError, BatchResponse, BatchResult
from ingest.settings import GatewaySettings
from schemas.cloudevents import decode
from schemas.events import FrameCaptured
from schemas.topics import FRAMES_BACKFILL, FRAMES_LIVE
from standgale.testing.waiting import until
from tests.harnesses.stand_in_detector import detecting
from tests.photographs import photograph
from tests.servers.gateway import FRAME, OTHER_TOKEN, TOKEN, WHEN, Gateway, GatewayResponse, Raw, jpeg, running
from tests.servers.gateway_checks import assert_documented, assert_error, assert_nothing_stored

BATCH = "/api/v1/detect/batch"
TIME = ("timestamp", WHEN)
Part = tuple[str, str | bytes]


def images(count: int, first: int = 0) -> list[bytes]:
    return [jpeg(seed=seed) for seed in range(first, first + count)]


async def send(
    gateway: Gateway, pictures: Sequence[bytes], *fields: Part, behind: Sequence[Part] = (), token: str = TOKEN
) -> GatewayResponse:
    """Send a batch with ``fields`` before the images, and some ``behind`` them."""
    form = aiohttp.FormData(quote_fields=False, default_to_multipart=True)
    for name, value in fields:
        form.add_field(name, value)
    for number, picture in enumerate(pictures):
        form.add_field("images", picture, filename=f"{number}.jpg", content_type="image/jpeg")
    for name, value in behind:
        form.add_field(name, value)
    return await gateway.send(form, path=BATCH, params={}, token=token)


def outcome(response: GatewayResponse) -> tuple[list[int], list[tuple[int, str]]]:
    """Return the places of the results, and places and codes of the errors; check that they agree with the totals."""
    assert response.status == 200, response.body
    body: Mapping[str, list[Mapping[str, str]]] = response.json
    results, errors = body["results"], body["errors"]
    assert (body["total_processed"], body["total_failed"]) == (len(results), len(errors))
    assert body["failed_images"] == [error["filename"] for error in errors]
    assert all(error["message"] for error in errors)
    assert_documented(body, BatchResponse)
    for result in results:
        assert_documented(result, BatchResult)
    for error in errors:
        assert_documented(error, BatchError)
    return [int(one["index"]) for one in results], [(int(one["index"]), one["code"]) for one in errors]


async def frames(gateway: Gateway) -> list[FrameCaptured]:
    return [decode(one.headers, one.value, FrameCaptured) for one in await gateway.records(FRAMES_BACKFILL)]


async def test_batch_returns_a_result_per_image_in_the_order_sent(gateway: Gateway) -> None:
    """C-S1-008, C-S1-009 and C-S1-011."""
    async with detecting(gateway.broker, lambda frame: frame.original_filename != "2.jpg"):
        pictures = images(5)
        response = await send(gateway, pictures, TIME, ("device_id", "drone-1"), ("metadata", '{"trip": 4}'))
        assert outcome(response) == ([0, 1, 2, 3, 4], [])
        results = response.json["results"]
        assert [one["filename"] for one in results] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg"]
        assert [one["has_detections"] for one in results] == [True, True, False, True, True]
        assert {frozenset(one) for one in results} == {frozenset(results[0])}
        assert {"image_id", "lakefs_path", "detections", "inference_time_ms", "model_version"} <= set(results[0])
    sent = await frames(gateway)
    assert [str(frame.frame_id) for frame in sent] == [one["image_id"] for one in results]
    assert [frame.metadata for frame in sent] == [{"trip": 4}] * 5
    # Behind live frames: a batch is what was kept while there was no connection.
    assert await gateway.records(FRAMES_LIVE) == []


async def test_batch_of_live_frames_is_not_put_behind_others(gateway: Gateway) -> None:
    async with detecting(gateway.broker):
        response = await send(gateway, images(2), TIME, ("priority", "live"))
    assert outcome(response) == ([0, 1], [])
    assert len(await gateway.records(FRAMES_LIVE)) == 2


async def test_failed_images_are_named_and_stop_no_other(gateway: Gateway) -> None:
    """C-S1-009, C-S1-010, C-S1-015 and C-S1-115."""

    def decide(frame: FrameCaptured) -> ImageCorruptError | bool:
        return ImageCorruptError("ends early") if frame.original_filename == "5.jpg" else True

    limits = gateway.settings
    pictures = [*images(1), b"\0" * 900, FRAME[:-300], b"", bytes(limits.max_image_bytes + 1), *images(2, first=5)]
    async with detecting(gateway.broker, decide):
        response = await send(gateway, pictures, TIME)
        codes = {1: "INVALID_FORMAT", 2: "CORRUPTED_FILE", 3: "CORRUPTED_FILE", 4: "FILE_TOO_LARGE", 5: "IMAGE_CORRUPT"}
        assert outcome(response) == ([0, 6], list(codes.items()))
        errors = response.json["errors"]
        assert str(limits.max_image_bytes + 1) in errors[3]["message"]
        assert UUID(errors[4]["image_id"])
        # They can be sent again alone (C-S1-115).
        good = await send(gateway, images(2), TIME)
        assert outcome(good) == ([0, 1], [])


@pytest.mark.parametrize("at_the_end", [False, True])
async def test_capture_time_is_that_of_the_image_or_given_once_or_per_image(gateway: Gateway, at_the_end: bool) -> None:
    """C-S1-012."""
    times = [f"2026-01-31T12:00:0{number}Z" for number in range(3)]
    given = [("timestamp", moment) for moment in times]
    async with detecting(gateway.broker):
        each = await (send(gateway, images(3), behind=given) if at_the_end else send(gateway, images(3), *given))
        assert [one["captured_at"][:19] for one in each.json["results"]] == [moment[:19] for moment in times]
        without = await send(gateway, images(2, first=7))
        assert outcome(without) == ([], [(0, "INVALID_CAPTURE_TIME"), (1, "INVALID_CAPTURE_TIME")])
        body = assert_error(await send(gateway, images(3), *given[:2]), 400, "VALIDATION_ERROR", "timestamp")
        assert body["message"].startswith("timestamp was given 2 times for 3 images")
        wrong = await send(gateway, images(1), ("captured_at", "yesterday"))
        assert_error(wrong, 400, "INVALID_CAPTURE_TIME", "captured_at")


async def test_capture_time_in_the_image_comes_first(gateway: Gateway) -> None:
    own = photograph({0x9003: "2026:02:03 04:05:06"}, size=(320, 272))
    async with detecting(gateway.broker):
        response = await send(gateway, [own, FRAME], TIME)
    assert [one["captured_at"][:19] for one in response.json["results"]] == ["2026-02-03T04:05:06", WHEN[:19]]
    assert "no time zone" in str(response.json["results"][0]["warnings"])


async def test_more_images_than_allowed_are_refused_and_none_is_accepted(tmp_path: Path) -> None:
    """C-S1-013."""
    async with running(tmp_path, GatewaySettings(max_batch_images=3)) as gateway:
        body = assert_error(await send(gateway, images(4), TIME), 400, "TOO_MANY_FILES", "images")
        assert "gateway.max_batch_images" in body["message"]
        assert await frames(gateway) == []


async def test_batch_that_is_wrong_as_a_whole_accepts_nothing(gateway: Gateway) -> None:
    assert_error(await send(gateway, [], TIME), 400, "VALIDATION_ERROR", "images")
    assert_error(await send(gateway, images(1), TIME, ("device_id", "drone-2")), 403, "ACCESS_DENIED", "device_id")
    assert_error(await send(gateway, images(1), TIME, behind=[("metadata", "{")]), 400, "VALIDATION_ERROR", "metadata")
    assert_error(await send(gateway, images(1), TIME, ("speed", "3")), 400, "VALIDATION_ERROR", "speed")
    raw = await gateway.send(FRAME, path=BATCH)
    assert_error(raw, 415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type")
    assert_error(await gateway.send(FRAME, path=BATCH, token=None), 401, "UNAUTHORIZED")
    assert await frames(gateway) == []


async def test_image_without_detections_in_time_is_found_when_sent_again(tmp_path: Path) -> None:
    """C-S1-014."""
    async with running(tmp_path, GatewaySettings(batch_timeout_s=1.5)) as gateway:
        async with detecting(gateway.broker, lambda frame: True if frame.original_filename == "0.jpg" else None):
            response = await send(gateway, images(2), TIME)
        assert outcome(response) == ([0], [(1, "NO_DETECTIONS_YET")])
        (error,) = response.json["errors"]
        assert error["message"].startswith("accepted, but there are no detections 1.5 s after")
        assert error["captured_at"] == WHEN
        async with detecting(gateway.broker):
            again = await send(gateway, images(1, first=1), ("timestamp", error["captured_at"]))
        assert again.json["results"][0]["image_id"] == error["image_id"]


async def test_store_that_fails_for_all_is_503_and_for_some_is_their_error(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, full = gateway.store.put, StoreFullError("/srv/frames is full")
    calls = 0

    async def put_or_fail(data: bytes, *, sha256: str, media_type: str) -> str:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise full
        return await put(data, sha256=sha256, media_type=media_type)

    async with detecting(gateway.broker):
        monkeypatch.setattr(gateway.store, "put", put_or_fail)
        done, failed = outcome(await send(gateway, images(4), TIME))
        assert (len(done), {code for _, code in failed}) == (2, {"STORAGE_FULL"})
        monkeypatch.setattr(gateway.store, "put", lambda *_args, **_named: _failing(full))
        assert "/srv" not in str(assert_error(await send(gateway, images(3), TIME), 503, "STORAGE_FULL"))
        monkeypatch.undo()
        gateway.publisher.fault = BrokerUnavailableError("kafka-7 is away")
        assert_error(await send(gateway, images(3), TIME), 503, "BROKER_UNAVAILABLE")


async def _failing(error: Exception) -> str:
    raise error


async def test_client_that_disconnects_while_it_waits_leaves_its_frames_accepted(gateway: Gateway) -> None:
    raw = await raw_batch(gateway, images(4))
    await until(lambda: _count(gateway, 4))
    raw.reset()
    await until(lambda: not gateway.answers.places._devices)
    assert len(await frames(gateway)) == 4


async def raw_batch(gateway: Gateway, pictures: Sequence[bytes], declared_bytes: int | None = None) -> Raw:
    """Send a batch over a connection of its own; with ``declared_bytes`` it does not end."""
    part = b'--b\r\nContent-Disposition: form-data; name="images"\r\n\r\n%s\r\n'
    time = b'--b\r\nContent-Disposition: form-data; name="timestamp"\r\n\r\n%s\r\n' % WHEN.encode()
    body = b"".join(part % picture for picture in pictures) + (b"" if declared_bytes else time + b"--b--\r\n")
    kind = "Content-Type: multipart/form-data; boundary=b"
    head = f"X-API-Token: {TOKEN}\r\n{kind}\r\nContent-Length: {declared_bytes or len(body)}\r\n"
    return await gateway.raw(head, body, path=BATCH, query="")


async def _count(gateway: Gateway, wanted: int) -> bool:
    return len(await frames(gateway)) == wanted


async def test_client_that_disconnects_while_it_sends_leaves_no_frame_and_no_slot(tmp_path: Path) -> None:
    async with running(tmp_path, GatewaySettings(max_concurrent_uploads=1)) as gateway:
        raw = await raw_batch(gateway, [FRAME] * 3, declared_bytes=900_000)
        await until(lambda: len(gateway.stored()) == 1)
        raw.writer.close()
        await until(lambda: not gateway.answers.places._devices)
        assert (await gateway.send()).status == 202
        assert await frames(gateway) == []


async def test_batches_of_many_bytes_leave_memory_for_other_devices(tmp_path: Path) -> None:
    settings = GatewaySettings(max_image_bytes=200_000, max_in_flight_bytes=1_000_000)
    async with running(tmp_path, settings) as gateway, detecting(gateway.broker):
        # Ten times as many bytes as may be in memory, all together, in one request.
        large = [jpeg(seed=seed) + bytes(60_000) for seed in range(50)]
        sent = asyncio.gather(*(send(gateway, large[at::2], TIME) for at in (0, 1)))
        others = [await gateway.send(jpeg(seed=seed), token=OTHER_TOKEN) for seed in range(3)]
        assert [response.status for response in others] == [202] * 3
        for response in await sent:
            if response.status == 503:
                assert_error(response, 503, "OVERLOADED")
            else:
                assert outcome(response)[1] == []


async def test_disabled_batch_is_not_found(tmp_path: Path) -> None:
    async with running(tmp_path, GatewaySettings(batch_enabled=False)) as gateway:
        assert_error(await send(gateway, images(1), TIME), 404, "NOT_FOUND")
        await assert_nothing_stored(gateway)


async def test_frames_of_a_batch_name_it_and_the_same_batch_has_the_same_name(gateway: Gateway) -> None:
    """C-S1-016: the archive commits them together."""
    async with detecting(gateway.broker, lambda frame: False):
        for _ in range(2):
            await send(gateway, [*images(3), b"no picture"], TIME)
        await send(gateway, images(1, first=7), TIME)
    sent = [frame.batch for frame in await frames(gateway)]
    assert [batch.frames for batch in sent if batch is not None] == [3] * 6 + [1]
    assert len({batch.id for batch in sent if batch is not None}) == 2
