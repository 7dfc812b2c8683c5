"""Bodies are read within limits of size, time and number."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive

from infra.http_api.errors.api_errors import UploadIncompleteError, UploadTimeoutError, ValidationFailedError
from infra.http_api.limits.turns import Turns
from infra.http_api.request.body import BodyLimit, BodyTimeLimit, BodyTooLargeError, declared_length, read_body

LIMIT = BodyLimit(100, "some.setting", "images", "Send fewer.")
TIME = BodyTimeLimit(1.0, "some.time")


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
    body = await read_body(receive, BodyLimit(6, "some.setting"), TIME, Turns(), "d")
    assert body == b"abcdef"


async def test_reading_stops_at_the_limit() -> None:
    receive, rest = receiving(b"abc", b"def", b"ghi", b"jkl")
    with pytest.raises(BodyTooLargeError, match=r"some\.setting"):
        await read_body(receive, BodyLimit(5, "some.setting"), TIME, Turns(), "d")
    assert rest == [b"ghi", b"jkl"]


async def test_read_body_of_disconnected_client_raises_upload_incomplete() -> None:
    receive, _ = receiving(b"abc", None)
    with pytest.raises(UploadIncompleteError, match="3 bytes"):
        await read_body(receive, BodyLimit(5, "some.setting"), TIME, Turns(), "d")


async def test_a_slow_client_does_not_hold_its_slot_for_ever() -> None:
    async def receive() -> Message:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(UploadTimeoutError, match=r"within 0\.1 s \(console\.body_timeout_s\)"):
        await read_body(receive, LIMIT, BodyTimeLimit(0.1, "console.body_timeout_s"), Turns(), "d")


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
