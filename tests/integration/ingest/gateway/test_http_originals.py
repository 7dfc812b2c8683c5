"""I14: large originals are uploaded first, straight into the store where it can, and announced as frames then."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp
import numpy as np
import pytest
from PIL import Image

from infra.deploy.s3 import S3Server
from infra.storage.frames.open import open_frame_store
from infra.storage.originals.open import open_uploads
from infra.storage.originals.port import Upload
from infra.storage.settings import FrameSettings
from ingest.gateway.openapi.bodies import OriginalUpload, UploadAddress
from ingest.settings import GatewaySettings
from schemas.cloudevents import decode
from schemas.events import FrameCaptured
from schemas.possession import proof_of
from tests.servers.gateway import OTHER_TOKEN, PATH, TOKEN, WHEN, Gateway, GatewayResponse, running
from tests.servers.gateway_checks import assert_documented, assert_error
from tests.servers.gateway_process import GatewayProcess

pytestmark = pytest.mark.integration

ORIGINALS = "/api/v1/originals"
SETTINGS = GatewaySettings(
    max_image_bytes=100_000,
    max_side_px=1_000,
    max_original_bytes=4_000_000,
    max_original_side_px=2_000,
    max_pending_originals=3,
    body_timeout_s=2.0,
    answer_timeout_s=0.3,
)


def tiff(width: int = 1_200, height: int = 900, seed: int = 1) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "TIFF")
    return out.getvalue()


ORIGINAL = tiff()
DIGEST = sha256(ORIGINAL).hexdigest()


@pytest.fixture(params=["folder", "s3"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    if request.param == "folder":
        frames = FrameSettings(folder=tmp_path / "frames", min_free_bytes=0)
    else:
        server: S3Server = request.getfixturevalue("s3_server")
        frames = server.settings(prefix=f"originals-{os.urandom(6).hex()}", timeout_s=5.0)
    async with gateway_on(frames, tmp_path) as started:
        yield started


@pytest.fixture
async def folder_gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_on(FrameSettings(folder=tmp_path / "frames", min_free_bytes=0), tmp_path) as started:
        yield started


def gateway_on(frames: FrameSettings, folder: Path, settings: GatewaySettings = SETTINGS) -> Any:
    uploads = open_uploads(frames, folder, max_bytes=settings.max_original_bytes)
    return running(folder, settings, originals=uploads, frames=open_frame_store(frames, folder))


async def ask(gateway: Gateway, image: bytes = ORIGINAL, token: str = TOKEN, **changes: object) -> GatewayResponse:
    body = {"sha256": sha256(image).hexdigest(), "size_bytes": len(image), "media_type": "image/tiff"} | changes
    return await gateway.send(json.dumps(body).encode(), path=ORIGINALS, params={}, token=token)


async def address(gateway: Gateway, image: bytes = ORIGINAL, **changes: object) -> dict[str, Any]:
    response = await ask(gateway, image, **changes)
    assert (response.status, response.json["status"]) == (200, "upload"), response.body
    upload: dict[str, Any] = response.json["upload"]
    return upload | {"url": urljoin(gateway.url + ORIGINALS, upload["url"])}


async def put(
    gateway: Gateway, upload: dict[str, Any], data: bytes = ORIGINAL, headers: dict[str, str] | None = None
) -> GatewayResponse:
    given = {name: text for name, text in upload["headers"].items() if name != "Content-Length"} | (headers or {})
    async with gateway.client.put(upload["url"], data=data, headers=given) as response:
        return GatewayResponse(response.status, dict(response.headers), await response.read())


async def announce(
    gateway: Gateway, image: bytes = ORIGINAL, token: str = TOKEN, *, proof: bool = False
) -> GatewayResponse:
    params = {"captured_at": WHEN, "sha256": sha256(image).hexdigest(), "flight": "north"}
    return await gateway.send(b"", params=params | ({"proof": proof_of(image)} if proof else {}), token=token)


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
    assert gateway.originals is not None
    assert await gateway.originals.pending(Upload("drone-1", "0" * 64, 1, "image/tiff"), 9) == 0


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
    for image, code in (
        (half, "CORRUPTED_FILE"),
        (tiff(2_001, 300), "INVALID_DIMENSIONS"),
        (b"not a picture", "INVALID_FORMAT"),
    ):
        assert (await put(gateway, await address(gateway, image), image)).status == 200
        response = await announce(gateway, image)
        assert_error(response, 400, code, "image")
    assert "max_original_side_px" in (await announce(gateway, tiff(2_001, 300))).json["message"]
    assert await gateway.records() == []
    refused = assert_error(await ask(gateway), 409, "TOO_MANY_ORIGINALS")
    assert "max_pending_originals" in refused["message"]
    assert (await ask(gateway, token=OTHER_TOKEN)).status == 200


async def test_no_more_originals_wait_than_a_device_may_have(gateway: Gateway) -> None:
    images = [tiff(300, 300, seed=seed) for seed in range(5)]
    uploads = [await address(gateway, image) for image in images]
    statuses = [(await put(gateway, upload, image)).status for upload, image in zip(uploads, images, strict=True)]
    # The store itself receives them with S3, and counts nothing.
    assert statuses == ([200] * 5 if "X-Amz" in uploads[0]["url"] else [200] * 3 + [409] * 2)
    assert_error(await ask(gateway, images[4] + b"x"), 409, "TOO_MANY_ORIGINALS")
    assert (await announce(gateway, images[0])).status == 202


async def test_an_upload_that_is_here_in_part_continues_at_the_limit(folder_gateway: Gateway) -> None:
    gateway = folder_gateway
    middle, size = 1_000, len(ORIGINAL)
    begun = await address(gateway)
    part = {"Content-Range": f"bytes 0-{middle - 1}/{size}"}
    assert (await put(gateway, begun, ORIGINAL[:middle], part)).status == 202
    for image in (tiff(300, 300, seed=seed) for seed in range(2)):
        assert (await put(gateway, await address(gateway, image), image)).status == 200
    rest = {"Content-Range": f"bytes {middle}-{size - 1}/{size}"}
    assert (await put(gateway, await address(gateway), ORIGINAL[middle:], rest)).status == 200
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


async def test_slow_uploads_of_some_devices_keep_no_other_one_out(folder_gateway: Gateway) -> None:
    gateway = folder_gateway
    uploads = gateway.originals
    assert uploads is not None

    async def slow() -> AsyncIterator[bytes]:
        while True:
            yield ORIGINAL[:1_000]
            await asyncio.sleep(0.2)

    async def upload(device: str, number: int, data: object) -> int:
        image = ORIGINAL + bytes([number])
        one = Upload(device, sha256(image).hexdigest(), len(image), "image/tiff")
        url = urljoin(gateway.url, (await uploads.grant(one, 60.0)).url)
        async with gateway.client.put(url, data=data or image) as response:
            return response.status

    devices = [device for device in ("slow-1", "slow-2", "slow-3", "slow-4") for _ in range(3)]
    running = [asyncio.create_task(upload(device, place, slow())) for place, device in enumerate(devices)]
    await asyncio.sleep(0.5)
    assert [await upload(f"quick-{number}", number, None) for number in range(3)] == [200] * 3
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)


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
    assert await uploads.pending(Upload("drone-1", DIGEST, 1, "image/tiff"), 10) == 0
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
