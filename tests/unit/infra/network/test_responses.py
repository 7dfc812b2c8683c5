"""Bodies of responses up to a limit, and headers that ask to wait."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from email.utils import format_datetime
from unittest.mock import Mock

import pytest
from aiohttp import ClientResponse, StreamReader

from infra.network.responses import read_bounded, retry_after_s
from schemas.timestamps import utc_now


@pytest.mark.parametrize(("most", "body"), [(3, b"one"), (5, b"onetw"), (6, b"onetwo"), (100, b"onetwo")])
async def test_body_that_comes_in_pieces_is_read_to_its_end_or_the_limit(most: int, body: bytes) -> None:
    content = StreamReader(Mock(_reading_paused=False), 1 << 16, loop=asyncio.get_running_loop())
    response = Mock(spec=ClientResponse, content=content)
    reading = asyncio.create_task(read_bounded(response, most))
    for piece in (b"one", b"two"):
        content.feed_data(piece)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    content.feed_eof()
    assert await reading == body


@pytest.mark.parametrize(
    "text", ["", "soon", "-5", "\u00b2", "1.5", "Wed, 30 Nov 99999 08:00:00 GMT", "Mon, 31 Dec 9999 23:59:59 -2300"]
)
def test_retry_after_that_is_no_time_is_not_there(text: str) -> None:
    assert retry_after_s(text) is None


def test_retry_after_can_be_a_date() -> None:
    later, former = (utc_now() + timedelta(seconds=each) for each in (600, -600))
    assert 590 < (retry_after_s(format_datetime(later, usegmt=True)) or 0) <= 600
    assert 590 < (retry_after_s(format_datetime(later.replace(tzinfo=None))) or 0) <= 600
    assert retry_after_s(format_datetime(former, usegmt=True)) == 0
