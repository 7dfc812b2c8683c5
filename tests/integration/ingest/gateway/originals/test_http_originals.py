"""I14: large originals are uploaded first, straight into the store where it can, and announced as frames then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import urljoin

import aiohttp
import pytest

from infra.storage.settings import FrameSettings
from ingest.gateway.openapi.bodies import OriginalUpload, UploadAddress
from schemas.cloudevents import decode
from schemas.events import FrameCaptured
from tests.servers.gateway import OTHER_TOKEN, PATH, TOKEN, WHEN, Gateway, GatewayResponse
from tests.servers.gateway_checks import assert_documented, assert_error
from tests.servers.gateway_process import GatewayProcess
from tests.servers.originals import (
    DIGEST,
    ORIGINAL,
    ORIGINALS,
    SETTINGS,
    address,
    announce,
    ask,
    gateway_on,
    pending,
    put,
    tiff,
)

pytestmark = pytest.mark.integration


async def test_an_original_is_uploaded_and_announced(gateway: Gateway) -> None:
    upload = await address(gateway)
    given = (await ask(gateway)).json
    assert_documented(given, OriginalUpload)
    assert_documented(given["upload"], UploadAddress)
    assert_error(await announce(gateway, proof=True), 404, "IMAGE_NOT_STORED", "sha256")
    assert (await put(gateway, upload)).status == 200
    response = await announce(gateway)
    assert response.status == 202, response.body
    assert response.json["image"] == {
        "sha256": DIGEST,
        "size_bytes": len(ORIGINAL),
        "media_type": "image/tiff",
        "width": 1_200,
        "height": 900,
    }
    (record,) = await gateway.records()
    event = decode(record.headers, record.value, FrameCaptured)
    assert (event.image.sha256, event.flight_id) == (DIGEST, "north")
    # The upload is gone, the image is stored: a lost response is got again with the proof, and so is another frame.
    assert_error(await announce(gateway), 400, "VALIDATION_ERROR", "proof")
    again = await announce(gateway, proof=True)
    assert {**again.json, "received_at": ""} == {**response.json, "received_at": ""}
    assert (await ask(gateway)).json == {"status": "stored", "upload": None}
    known = await gateway.send(json.dumps([DIGEST]).encode(), path=f"{PATH}/known", params={})
    assert known.json == {"known": [DIGEST]}
    assert (await gateway.send(b"", params={"captured_at": WHEN, "sha256": DIGEST, "proof": DIGEST})).status == 404


async def test_an_original_that_detect_announces_leaves_no_upload(gateway: Gateway) -> None:
    assert (await put(gateway, await address(gateway))).status == 200
    params = {"timestamp": WHEN, "sha256": DIGEST}
    assert (await gateway.send(b"", path="/api/v1/detect", params=params)).status == 202
    assert await pending(gateway) == 0


async def test_announcements_of_one_original_at_once_are_all_accepted(gateway: Gateway) -> None:
    assert (await put(gateway, await address(gateway))).status == 200

    async def announced() -> GatewayResponse:
        # The S3 server of the tests answers puts of one key at once with 500 now and then; a client sends it again.
        response = await announce(gateway, proof=True)
        return await announced() if response.status == 503 else response

    responses = await asyncio.wait_for(asyncio.gather(*(announced() for _ in range(6))), 20)
    assert [response.status for response in responses] == [202] * 6, [response.body for response in responses]
    assert len({response.json["frame_id"] for response in responses}) == 1
    assert await pending(gateway) == 0


async def test_an_upload_with_another_content_or_size_is_refused(gateway: Gateway) -> None:
    upload = await address(gateway)
    other = tiff(seed=2)
    assert len(other) == len(ORIGINAL)
    lied = await put(gateway, upload, other)
    if lied.status == 200:
        # Not every S3 server compares the digest that was signed; then the announcement does.
        lied = await announce(gateway)
    assert_error(lied, 400, "DIGEST_MISMATCH", "sha256")
    for data in (ORIGINAL[:-1], ORIGINAL + b"x"):
        assert (await put(gateway, upload, data)).status in (400, 403)
    assert_error(await announce(gateway, proof=True), 404, "IMAGE_NOT_STORED", "sha256")
    assert await gateway.records() == []
    assert (await put(gateway, upload)).status == 200
    assert (await announce(gateway)).status == 202


async def test_an_upload_belongs_to_the_device_that_asked(gateway: Gateway) -> None:
    upload = await address(gateway)
    assert (await put(gateway, upload)).status == 200
    assert_error(await announce(gateway, token=OTHER_TOKEN), 400, "VALIDATION_ERROR", "proof")
    for changed in (
        upload["url"].replace("drone-1", "drone-2"),
        upload["url"].replace(DIGEST, sha256(b"").hexdigest()),
        upload["url"][:-4] + ("0000" if upload["url"][-4:] != "0000" else "1111"),
        upload["url"].partition("?")[0],
    ):
        assert (await put(gateway, upload | {"url": changed})).status in (400, 403), changed
    assert (await announce(gateway)).status == 202


async def test_an_original_that_is_no_picture_or_too_large_is_refused(gateway: Gateway) -> None:
    half = ORIGINAL[: len(ORIGINAL) // 2]
    for image, code, why in (
        (half, "CORRUPTED_FILE", ""),
        (tiff(2_001, 300), "INVALID_DIMENSIONS", "max_original_side_px"),
        (b"not a picture", "INVALID_FORMAT", ""),
    ):
        assert (await put(gateway, await address(gateway, image), image)).status == 200
        assert why in assert_error(await announce(gateway, image), 400, code, "image")["message"]
        # It took a place of the device for two hours.
        assert await pending(gateway) == 0
        assert_error(await announce(gateway, image, proof=True), 404, "IMAGE_NOT_STORED", "sha256")
    assert await gateway.records() == []


async def test_an_original_that_is_announced_with_a_wrong_time_stays(gateway: Gateway) -> None:
    assert (await put(gateway, await address(gateway))).status == 200
    response = await gateway.send(b"", params={"sha256": DIGEST, "captured_at": "2099-01-01T00:00:00Z"})
    assert_error(response, 400, "INVALID_CAPTURE_TIME", "captured_at")
    assert await pending(gateway) == 1
    assert (await announce(gateway)).status == 202


async def test_a_wrong_description_is_refused(folder_gateway: Gateway) -> None:
    for changes, code in (
        ({"size_bytes": 0}, "VALIDATION_ERROR"),
        ({"size_bytes": True}, "VALIDATION_ERROR"),
        ({"size_bytes": 4_000_001}, "FILE_TOO_LARGE"),
        ({"media_type": "image/gif"}, "VALIDATION_ERROR"),
        ({"media_type": ["image/png"]}, "VALIDATION_ERROR"),
        ({"sha256": DIGEST.upper()}, "VALIDATION_ERROR"),
        ({"sha256": None}, "VALIDATION_ERROR"),
        ({"more": 1}, "VALIDATION_ERROR"),
    ):
        response = await ask(folder_gateway, **changes)
        assert (response.status, response.json["error_code"]) == (400, code), changes
    assert (await ask(folder_gateway, token="wrong")).status == 401


async def test_an_upload_that_was_cut_off_continues(folder_gateway: Gateway) -> None:
    gateway = folder_gateway
    upload = await address(gateway)
    size, middle = len(ORIGINAL), 1_000_000

    async def half() -> AsyncIterator[bytes]:
        yield ORIGINAL[:middle]
        await asyncio.sleep(0.2)
        raise ConnectionError

    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await gateway.client.put(upload["url"], data=half(), headers=upload["headers"])
    offset = await offset_at_least(gateway.client, upload["url"], 1)
    assert offset <= middle
    wrong = await put(gateway, upload, ORIGINAL[5:], {"Content-Range": f"bytes 5-{size - 1}/{size}"})
    assert_error(wrong, 409, "WRONG_OFFSET", "Content-Range")
    assert wrong.headers["upload-offset"] == str(offset)
    part = {"Content-Range": f"bytes {offset}-{middle + 9}/{size}"}
    response = await put(gateway, upload, ORIGINAL[offset : middle + 10], part)
    assert (response.status, response.json) == (202, {"status": "partial", "offset": middle + 10})
    rest = {"Content-Range": f"bytes {middle + 10}-{size - 1}/{size}"}
    assert (await put(gateway, upload, ORIGINAL[middle + 10 :], rest)).json["status"] == "uploaded"
    assert (await put(gateway, upload)).json == {"status": "uploaded", "offset": size}
    assert (await announce(gateway)).status == 202
    for text in ("bytes 0-1/2", "bytes 9-5/2", "pages 1-2", f"bytes 0-{size}/{size}"):
        response = await put(gateway, upload, b"x", {"Content-Range": text})
        assert_error(response, 400, "WRONG_SIZE", "Content-Range")


async def test_two_uploads_of_one_original_do_not_mix(folder_gateway: Gateway) -> None:
    upload = await address(folder_gateway)
    answers = await asyncio.gather(*(put(folder_gateway, upload) for _ in range(4)))
    assert {response.status for response in answers} <= {200, 409, 503}
    for _ in range(100):
        if (await put(folder_gateway, upload)).status == 200:
            break
        await asyncio.sleep(0.05)
    assert (await announce(folder_gateway)).status == 202


async def test_an_address_lasts_through_a_restart_and_expires(tmp_path: Path) -> None:
    frames = FrameSettings(folder=tmp_path / "frames", min_free_bytes=0)
    async with gateway_on(frames, tmp_path) as gateway:
        upload = await address(gateway)
    key = tmp_path / "frames" / ".originals" / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    async with gateway_on(frames, tmp_path, SETTINGS.model_copy(update={"original_upload_s": 1.0})) as gateway:
        there = urljoin(gateway.url, upload["url"].partition(str(upload["url"].split("/")[2]))[2])
        assert (await put(gateway, upload | {"url": there})).status == 200
        late = await address(gateway, tiff(seed=3))
        await asyncio.sleep(1.1)
        response = await put(gateway, late, tiff(seed=3))
        assert "expired" in assert_error(response, 403, "UPLOAD_REFUSED")["message"]


async def test_a_full_disk_is_an_outage_and_keeps_nothing(tmp_path: Path) -> None:
    frames = FrameSettings(folder=tmp_path / "frames", min_free_bytes=10**15)
    async with gateway_on(frames, tmp_path) as gateway:
        response = await put(gateway, await address(gateway))
        assert (response.status, response.json["error_code"]) == (503, "STORAGE_FULL")
        assert "Retry-After" in response.headers


async def test_an_upload_without_an_announcement_is_swept(gateway: Gateway) -> None:
    parts = [await address(gateway, tiff(300, 300, seed=seed)) for seed in range(2)]
    for seed, upload in enumerate(parts):
        assert (await put(gateway, upload, tiff(300, 300, seed=seed))).status == 200
    uploads = gateway.originals
    assert uploads is not None
    assert await uploads.sweep(60.0) == 0
    await asyncio.sleep(1.1)
    assert await uploads.sweep(1.0) == 2
    assert await pending(gateway) == 0
    assert_error(await announce(gateway, tiff(300, 300, seed=0), proof=True), 404, "IMAGE_NOT_STORED", "sha256")


async def test_a_killed_gateway_leaves_an_upload_that_continues(tmp_path: Path) -> None:
    size, middle = len(ORIGINAL), 700_000
    body = json.dumps({"sha256": DIGEST, "size_bytes": size, "media_type": "image/tiff"})
    with GatewayProcess(tmp_path / "gateway", settings=SETTINGS) as process:
        async with aiohttp.ClientSession(headers={"X-API-Token": TOKEN}) as client:
            async with client.post(process.url + ORIGINALS, data=body) as response:
                url = urljoin(process.url, (await response.json())["upload"]["url"])

            async def never_ending() -> AsyncIterator[bytes]:
                yield ORIGINAL[:middle]
                await asyncio.Event().wait()

            headers = {"Content-Length": str(size)}
            sending = asyncio.create_task(client.put(url, data=never_ending(), headers=headers).__aenter__())
            await offset_at_least(client, url, middle)
            await asyncio.to_thread(process.kill)
            with pytest.raises(aiohttp.ClientError):
                await sending
            await asyncio.to_thread(process.start)
            offset = await offset_at_least(client, url, 1)
            rest = {"Content-Range": f"bytes {offset}-{size - 1}/{size}"}
            async with client.put(url, data=ORIGINAL[offset:], headers=rest) as response:
                assert response.status == 200
            params = {"captured_at": WHEN, "sha256": DIGEST}
            async with client.post(process.url + PATH, params=params) as response:
                assert response.status == 202
                assert (await response.json())["image"]["size_bytes"] == size


async def offset_at_least(client: aiohttp.ClientSession, url: str, least: int) -> int:
    for _ in range(200):
        async with client.head(url) as response:
            offset = int(response.headers["Upload-Offset"])
        if offset >= least:
            return offset
        await asyncio.sleep(0.02)
    raise AssertionError(f"only {offset} bytes are there")
