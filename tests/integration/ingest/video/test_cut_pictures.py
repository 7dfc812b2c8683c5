"""A picture of a JPEG camera that was cut off is left out: its rest would be that of a picture before it."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from ingest.video.options import VideoSource
from tests.harnesses.video_pulls import pulling
from tests.integration.ingest.video.test_http import serving
from tests.servers.mjpeg import picture

pytestmark = pytest.mark.integration


def _without_end_marker(jpeg: bytes) -> bytes:
    assert jpeg.endswith(b"\xff\xd9")
    return jpeg[:-2]


async def test_pictures_that_are_cut_off_are_left_out_and_counted() -> None:
    sent = [picture(number) for number in range(30)]
    cut = {4, 11}
    for number in cut:
        sent[number] = sent[number][: len(sent[number]) // 2]
    # Some cameras do so, and nothing is missing.
    sent[7] = _without_end_marker(sent[7])

    async def camera(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "multipart/x-mixed-replace; boundary=frame"})
        await response.prepare(request)
        for data in sent:
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            await response.write(head.encode() + data + b"\r\n")
            await asyncio.sleep(0.02)
        await asyncio.sleep(20)
        return response

    async with serving(camera) as url, pulling(VideoSource("gate", url)) as running:
        await running.collector.wait_for(27)
        images = [frame.image for frame in running.collector.frames]
        counts = running.pull.counts
    whole = [sent[number] for number in range(27) if number not in {*cut, 7}]
    assert [image for image in images if image in whole] == whole
    assert len([image for image in images[: len(whole)] if image not in whole]) == 1
    assert counts.broken_packets == len(cut)
