"""I14: a device has a bounded number of originals that wait, and slow uploads keep no other device out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from urllib.parse import urljoin

import pytest

from infra.deploy.s3 import S3Server
from infra.storage.originals.port import Upload
from infra.storage.settings import FrameSettings
from standgale.testing.waiting import until
from tests.servers.gateway import OTHER_TOKEN, Gateway
from tests.servers.gateway_checks import assert_error
from tests.servers.originals import ORIGINAL, SETTINGS, address, announce, ask, gateway_on, pending, put, tiff

pytestmark = pytest.mark.integration

TURN_S = 2.0


async def test_no_more_originals_wait_than_a_device_may_have(gateway: Gateway) -> None:
    images = [tiff(300, 300, seed=seed) for seed in range(5)]
    asked = await asyncio.gather(*(ask(gateway, image) for image in images))
    if "X-Amz" in str([response.body for response in asked]):
        # The store itself receives them, and counts nothing: an address is a place.
        given = [image for image, response in zip(images, asked, strict=True) if response.status == 200]
        assert len(given) == 3, [response.body for response in asked]
        statuses = [(await put(gateway, await address(gateway, image), image)).status for image in given]
        assert statuses == [200] * 3
    else:
        given = images
        uploads = [await address(gateway, image) for image in images]
        statuses = [(await put(gateway, upload, image)).status for upload, image in zip(uploads, images, strict=True)]
        assert statuses == [200] * 3 + [409] * 2
    refused = assert_error(await ask(gateway, images[4] + b"x"), 409, "TOO_MANY_ORIGINALS")
    assert "max_pending_originals" in refused["message"]
    assert (await ask(gateway, token=OTHER_TOKEN)).status == 200
    assert (await announce(gateway, given[0])).status == 202
    assert (await ask(gateway, images[4] + b"x")).status == 200


async def test_an_address_of_s3_that_has_expired_is_no_place(tmp_path: Path, s3_server: S3Server) -> None:
    frames = s3_server.settings(prefix=f"originals-{os.urandom(6).hex()}", timeout_s=5.0)
    async with gateway_on(frames, tmp_path) as gateway:
        await address(gateway)
        assert await pending(gateway) == 1
        await asyncio.sleep(1.1)
        assert await pending(gateway, lasts_s=1.0) == 0
        assert gateway.originals is not None
        assert await gateway.originals.sweep(1.0) == 0
        assert await pending(gateway) == 0


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


@pytest.mark.parametrize(("devices", "each"), [(4, 3), (8, 1)])
async def test_slow_uploads_of_some_devices_keep_no_other_one_out(tmp_path: Path, devices: int, each: int) -> None:
    frames = FrameSettings(folder=tmp_path / "frames", min_free_bytes=0)
    async with gateway_on(frames, tmp_path, SETTINGS.model_copy(update={"body_timeout_s": TURN_S})) as gateway:
        await fill_with_slow_uploads(gateway, devices, each)


async def fill_with_slow_uploads(gateway: Gateway, devices: int, each: int) -> None:
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

    slow_ones = [f"slow-{number // each}" for number in range(devices * each)]
    running = [asyncio.create_task(upload(device, place, slow())) for place, device in enumerate(slow_ones)]
    await asyncio.sleep(0.5)
    # Where each has one upload, it has its turn before.
    for number in range(3):
        await until(partial(_is_taken, upload, number), timeout_s=5 * TURN_S)
    assert any(task.done() for task in running)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def _is_taken(upload: Callable[[str, int, object], Awaitable[int]], number: int) -> bool:
    return await upload(f"quick-{number}", number, None) == 200
