"""A body that is too large for its image is refused with the limit of the image."""

from __future__ import annotations

import pytest
from starlette.types import Message

from infra.http_api.limits.turns import Turns
from infra.http_api.request.body import BodyTimeLimit, declared_length, read_body
from ingest.gateway.request.image_limit import ImageLimit
from ingest.images.check import FileTooLargeError


async def test_a_form_that_is_too_large_is_refused_with_the_limit_of_its_image() -> None:
    """The message had the limit of the whole form, 10081920, which no setting has."""
    limit, image = ImageLimit.of_form(10_081_920, 10_000_000), ImageLimit.of_image(10_000_000)
    with pytest.raises(FileTooLargeError) as caught:
        declared_length({b"content-length": b"11000000"}, limit)
    assert str(caught.value) == (
        "the upload has 11000000 bytes; at most 10000000 are accepted for the image (gateway.max_image_bytes), and "
        "81920 for everything else in the form"
    )

    async def receive() -> Message:
        return {"type": "http.request", "body": bytes(10_081_921), "more_body": False}

    with pytest.raises(FileTooLargeError, match=r"more than 10081920 bytes; at most 10000000 .*max_image_bytes"):
        await read_body(receive, limit, BodyTimeLimit(1.0, "gateway.body_timeout_s"), Turns(), "d")
    assert "everything else" not in str(image.exceeded("11000000"))
