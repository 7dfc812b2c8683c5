"""The head of a response is written with its body, and alone only where the body comes later."""

from __future__ import annotations

import asyncio
from typing import cast

from infra.process.joined_head import JoinedHead

HEAD, BODY = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n", b"{}"


class Writes(asyncio.Transport):
    """Keeps what is written, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: object) -> None:
        self.written.append(cast(bytes, data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def test_head_and_body_of_a_response_are_one_write() -> None:
    writes = Writes()
    joined = JoinedHead(writes, asyncio.get_running_loop())
    for data in (HEAD, BODY, HEAD, BODY, b"more"):
        joined.write(data)
    await asyncio.sleep(0)
    assert writes.written == [HEAD + BODY, HEAD + BODY, b"more"]


async def test_head_is_written_at_once_where_the_body_comes_later() -> None:
    writes = Writes()
    joined = JoinedHead(writes, asyncio.get_running_loop())
    joined.write(HEAD)
    assert writes.written == []
    await asyncio.sleep(0)
    assert writes.written == [HEAD]
    joined.write(BODY)
    assert writes.written == [HEAD, BODY]


async def test_interim_response_is_not_kept() -> None:
    writes = Writes()
    JoinedHead(writes, asyncio.get_running_loop()).write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert len(writes.written) == 1


async def test_head_without_a_body_is_written_before_the_close() -> None:
    writes = Writes()
    joined = JoinedHead(writes, asyncio.get_running_loop())
    joined.write(HEAD)
    joined.close()
    assert writes.written == [HEAD]
    assert joined.is_closing()
    await asyncio.sleep(0)
    assert writes.written == [HEAD]
