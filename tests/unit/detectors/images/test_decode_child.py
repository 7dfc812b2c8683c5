"""Checks requests and replies of the separate process, in one process."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest

from detectors.geometry.arrays import ImageArray
from detectors.images import decode_child
from detectors.images.decode_child import serve
from detectors.images.decode_frames import (
    CORRUPT,
    PIXELS,
    TOO_COSTLY,
    Reply,
    Request,
    read_reply,
    read_request,
    write_request,
)
from infra.errors import ImageCorruptError
from tests.jpeg_files import jpeg


def served(*images: bytes, limit: Callable[[int], None] = lambda _: None, limit_s: float = 30.0) -> list[Reply]:
    requests, replies = io.BytesIO(), io.BytesIO()
    for data in images:
        write_request(requests, Request(data, 10_000, limit_s))
    requests.seek(0)
    serve(requests, replies, limit)
    replies.seek(0)
    return [read_reply(replies, lambda size: np.empty(size + 5, np.uint8)) for _ in images]


def test_serve_replies_with_pixels_and_errors_in_order() -> None:
    limits: list[int] = []
    found = served(jpeg(64, 48), b"GIF89a", jpeg(640, 480), jpeg(20, 10), limit=limits.append)
    assert [reply.kind for reply in found] == [PIXELS, CORRUPT, CORRUPT, PIXELS]
    assert [reply.image.shape for reply in found if reply.image is not None] == [(48, 64, 3), (10, 20, 3)]
    assert "GIF" in found[1].text
    assert "640×480" in found[2].text
    assert limits == [64 * 48, 10_000, 200]


def test_serve_takes_a_limit_longer_than_any_timer() -> None:
    assert served(jpeg(), limit_s=1e308)[0].kind == PIXELS


@pytest.mark.parametrize("error", [MemoryError(), ImageCorruptError("OpenCV: Insufficient memory")])
def test_serve_of_an_image_that_needs_too_much_memory_replies_too_costly(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def decode(data: bytes, *, max_pixels: int) -> ImageArray:
        raise error

    monkeypatch.setattr(decode_child, "decode_image", decode)
    assert served(jpeg())[0].kind == TOO_COSTLY


def test_read_request_of_a_cut_pipe_returns_none() -> None:
    whole = io.BytesIO()
    write_request(whole, Request(b"abc", 1, 1.0))
    for size in range(len(whole.getvalue())):
        assert read_request(io.BytesIO(whole.getvalue()[:size])) is None


def test_read_reply_of_a_cut_pipe_raises_end_of_file() -> None:
    with pytest.raises(EOFError):
        read_reply(io.BytesIO(b"\0\1"), lambda size: np.empty(size, np.uint8))
