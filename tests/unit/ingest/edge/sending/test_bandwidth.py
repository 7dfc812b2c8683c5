"""The limit of bytes per second."""

from __future__ import annotations

import asyncio

import pytest

from ingest.edge.sending.bandwidth import Bandwidth


async def passed(bandwidth: Bandwidth, body: bytes) -> tuple[bytes, float]:
    began = asyncio.get_running_loop().time()
    pieces = [bytes(piece) async for piece in bandwidth.pieces(body)]
    return b"".join(pieces), asyncio.get_running_loop().time() - began


async def test_body_without_a_limit_is_passed_at_once() -> None:
    body, seconds = await passed(Bandwidth(None), bytes(300_000))
    assert (len(body), seconds < 1) == (300_000, True)


@pytest.mark.parametrize("rate", [20_000, 100_000])
async def test_bodies_together_are_not_faster_than_the_rate(rate: int) -> None:
    bandwidth = Bandwidth(rate)
    began = asyncio.get_running_loop().time()
    for _ in range(3):
        await passed(bandwidth, bytes(rate // 8))
    seconds = asyncio.get_running_loop().time() - began
    # The last piece is passed on when its own time begins.
    assert seconds >= 3 / 8 - 0.1 - 0.01
    assert bandwidth.chunk_bytes == rate // 10


async def test_time_without_uploads_is_not_saved_up() -> None:
    bandwidth = Bandwidth(50_000)
    await asyncio.sleep(0.3)
    assert (await passed(bandwidth, bytes(15_000)))[1] >= 0.19
