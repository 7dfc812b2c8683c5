"""Bodies are read within limits of size, time and number."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive

from ingest.acceptance.errors import ValidationFailedError
from ingest.gateway.errors import UploadIncompleteError, UploadTimeoutError
from ingest.gateway.request.body import (
    BodyLimit,
    BodyTooLargeError,
    DeviceTurns,
    ImageLimit,
    declared_length,
    read_body,
)
from ingest.images.check import FileTooLargeError

LIMIT = BodyLimit(100, "some.setting", "images", "Send fewer.")


def receiving(*chunks: bytes | None) -> tuple[Receive, list[bytes]]:
    """A receive that hands out ``chunks`` (None: the client goes away), and the list of those it still has."""
    rest = [chunk for chunk in chunks if chunk is not None]
    gone = None in chunks

    async def receive() -> Message:
        if not rest and gone:
            return {"type": "http.disconnect"}
        chunk = rest.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(rest) or gone}

    return receive, rest


async def test_a_body_is_read_whole() -> None:
    receive, _ = receiving(b"abc", b"", b"def")
    body = await read_body(receive, ImageLimit.of_image(6), 1.0, DeviceTurns(), "d")
    assert body == b"abcdef"


async def test_reading_stops_at_the_limit() -> None:
    receive, rest = receiving(b"abc", b"def", b"ghi", b"jkl")
    with pytest.raises(FileTooLargeError, match="max_image_bytes"):
        await read_body(receive, ImageLimit.of_image(5), 1.0, DeviceTurns(), "d")
    assert rest == [b"ghi", b"jkl"]


async def test_read_body_of_disconnected_client_raises_upload_incomplete() -> None:
    receive, _ = receiving(b"abc", None)
    with pytest.raises(UploadIncompleteError, match="3 bytes"):
        await read_body(receive, ImageLimit.of_image(5), 1.0, DeviceTurns(), "d")


async def test_a_slow_client_does_not_hold_its_slot_for_ever() -> None:
    async def receive() -> Message:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(UploadTimeoutError, match="body_timeout_s"):
        await read_body(receive, ImageLimit.of_image(1_000_000), 0.1, DeviceTurns(), "d")


def test_declared_lengths() -> None:
    assert declared_length({b"content-length": b"70"}, LIMIT) == 70
    assert declared_length({}, LIMIT) == 100
    for text, shown in ((b"101", "101 bytes; at most 100"), (b"9" * 5_000, "a number of 5000 digits of bytes")):
        with pytest.raises(BodyTooLargeError, match=f"{shown}.*some.setting") as caught:
            declared_length({b"content-length": text}, LIMIT)
        assert (caught.value.code, caught.value.field, caught.value.details) == (
            "FILE_TOO_LARGE",
            "images",
            "Send fewer.",
        )
    for text in (b"-1", b"1e3", b""):
        with pytest.raises(ValidationFailedError):
            declared_length({b"content-length": text}, LIMIT)


async def test_a_form_that_is_too_large_is_refused_with_the_limit_of_its_image() -> None:
    """The message had the limit of the whole form, 10081920, which no setting has."""
    limit, image = ImageLimit.of_form(10_081_920, 10_000_000), ImageLimit.of_image(10_000_000)
    with pytest.raises(FileTooLargeError) as caught:
        declared_length({b"content-length": b"11000000"}, limit)
    assert str(caught.value) == (
        "the upload has 11000000 bytes; at most 10000000 are accepted for the image (gateway.max_image_bytes), and "
        "81920 for everything else in the form"
    )
    receive, _ = receiving(bytes(10_081_921))
    with pytest.raises(FileTooLargeError, match=r"more than 10081920 bytes; at most 10000000 .*max_image_bytes"):
        await read_body(receive, limit, 1.0, DeviceTurns(), "d")
    assert "everything else" not in str(image.exceeded("11000000"))


async def test_each_device_reads_one_piece_in_a_round_of_the_event_loop() -> None:
    turns = DeviceTurns()
    order: list[str] = []

    async def read(device_id: str, pieces: int) -> None:
        for _ in range(pieces):
            await turns.wait(device_id)
            order.append(device_id)
            await asyncio.sleep(0)

    greedy = [asyncio.create_task(read("greedy", 5)) for _ in range(10)]
    modest = asyncio.create_task(read("modest", 5))
    await modest
    assert order.count("greedy") <= 7
    greedy[0].cancel()
    await asyncio.gather(*greedy[1:])
    assert order.count("greedy") >= 45


async def test_a_device_whose_waiting_upload_was_cancelled_reads_on() -> None:
    turns = DeviceTurns()
    await turns.wait("d")
    cancelled = asyncio.create_task(turns.wait("d"))
    last = asyncio.create_task(turns.wait("d"))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait_for(last, 1)


async def test_a_device_has_a_rate_while_another_one_sends_and_none_alone() -> None:
    loop, turns = asyncio.get_running_loop(), DeviceTurns()

    async def read(device_id: str, pieces: int) -> float:
        begin = loop.time()
        for _ in range(pieces):
            await turns.wait(device_id)
        return loop.time() - begin

    await turns.wait("modest")
    assert await read("greedy", 132) >= 0.19
    assert await read("modest", 10) < 0.1
    alone = DeviceTurns()
    alone._alone_since, alone._newest = loop.time() - 2.0, "greedy"
    for _ in range(500):
        await alone.wait("greedy")
    assert alone._due == {}
