"""Writes and reads the requests and replies between a worker and its process that decodes pictures."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol

import numpy as np

from detectors.geometry.arrays import ImageArray

PIXELS, CORRUPT, TOO_COSTLY = 0, 1, 2
"""Kinds of replies: the pixels follow, or a text that says what is wrong."""

# Size, limits of pixels and of CPU time; kind, height and width or length of the text.
_REQUEST: Final = struct.Struct("<QQd")
_REPLY: Final = struct.Struct("<BII")


class Readable(Protocol):
    """Reads into a buffer, as files do."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read some bytes into ``buffer``; return how many, 0 at the end."""
        ...


class Writable(Protocol):
    """Takes all of the bytes, or raises an error."""

    def write(self, data: bytes, /) -> object:
        """Write ``data``."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """Asks for the pixels of ``data``, with at most ``max_pixels``, in at most ``limit_s`` of CPU time."""

    data: bytes
    max_pixels: int
    limit_s: float


@dataclass(frozen=True, slots=True)
class Reply:
    """Holds the pixels, or the text of the error of ``kind``."""

    kind: int
    image: ImageArray | None = None
    text: str = ""


def write_request(file: Writable, request: Request) -> None:
    """Write ``request``; a ``file`` with a buffer is not flushed."""
    file.write(_REQUEST.pack(len(request.data), request.max_pixels, request.limit_s))
    file.write(request.data)


def read_request(file: BinaryIO) -> Request | None:
    """Return the next request; None at the end of ``file``."""
    head = file.read(_REQUEST.size)
    if len(head) < _REQUEST.size:
        return None
    size, max_pixels, limit_s = _REQUEST.unpack(head)
    data = file.read(size)
    return Request(data, max_pixels, limit_s) if len(data) == size else None


def write_reply(file: BinaryIO, kind: int, *, image: ImageArray | None = None, text: str = "") -> None:
    """Write ``image``, or the ``text`` of an error."""
    if image is None:
        content = text.encode()
        file.write(_REPLY.pack(kind, len(content), 0) + content)
    else:
        file.write(_REPLY.pack(kind, *image.shape[:2]))
        file.write(np.ascontiguousarray(image).data)
    file.flush()


def read_reply(file: Readable, memory: Callable[[int], ImageArray]) -> Reply:
    """Return the next reply; ``memory`` gives the buffer of its pixels. Raises EOFError when ``file`` ends before."""
    head = memoryview(bytearray(_REPLY.size))
    _fill(file, head)
    kind, first, second = _REPLY.unpack(head)
    if kind != PIXELS:
        text = memoryview(bytearray(first))
        _fill(file, text)
        return Reply(kind, text=bytes(text).decode(errors="replace"))
    size = first * second * 3
    pixels = memory(size)[:size]
    _fill(file, pixels.data)
    return Reply(kind, pixels.reshape(first, second, 3))


def _fill(file: Readable, buffer: memoryview) -> None:
    while len(buffer):
        count = file.readinto(buffer)
        if not count:
            raise EOFError
        buffer = buffer[count:]
