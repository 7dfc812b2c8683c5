"""A camera that is connected to again and again keeps one decoder in memory, whatever ended the ones before."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest
from aiohttp import web

from ingest.video.decoding import VideoDecoder
from ingest.video.options import VideoSource
from tests.harnesses.video_pulls import pulling
from tests.integration.ingest.video.test_http import serving
from tests.servers.mjpeg import picture

pytestmark = pytest.mark.integration


@pytest.fixture
def without_garbage_collection() -> Iterator[None]:
    """Python's search for circles of references comes late; decoders are large, and must not wait for it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_garbage_collection")
@pytest.mark.parametrize("is_cut", [False, True])
async def test_reconnects_free_the_decoders_before(is_cut: bool) -> None:
    async def camera(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "multipart/x-mixed-replace; boundary=frame"})
        await response.prepare(request)
        for number in range(6):
            data = picture(number)
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            await response.write(head.encode() + data + b"\r\n")
            await asyncio.sleep(0.02)
        if is_cut:
            assert request.transport is not None
            request.transport.abort()
        return response

    async with serving(camera) as url, pulling(VideoSource("gate", url)) as running:
        async with asyncio.timeout(20):
            while running.pull.counts.reconnects < 5:  # noqa: ASYNC110 (as a person would look)
                await asyncio.sleep(0.02)
        decoders = sum(isinstance(each, VideoDecoder) for each in gc.get_objects())
    assert decoders <= 1
