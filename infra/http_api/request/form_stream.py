"""Reads a multipart/form-data body part by part while it arrives, so that only one part is in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from infra.http_api.request.multipart import (
    HEADERS_END,
    MAX_BOUNDARY,
    MAX_PART_HEADER_BYTES,
    FormPart,
    cut_off,
    malformed,
    part_with,
)

NextPiece = Callable[[], Awaitable[bytes | None]]
"""Returns the next piece of a body, and None at its end."""


@dataclass(frozen=True, slots=True)
class StreamedPart:
    """Is one part of a form; of one that is too large the content is left out."""

    part: FormPart
    size_bytes: int
    too_large: bool


class FormStream:
    """Splits a body at its boundaries; all work is a search for the next one, so its time grows with the size alone."""

    def __init__(self, next_piece: NextPiece, boundary: bytes, max_parts: int) -> None:
        self._next_piece = next_piece
        self._delimiter = b"\r\n--" + boundary
        self._max_parts = max_parts
        # The first boundary has no line break before it when the body begins with it.
        self._buffer = bytearray(b"\r\n")
        self._received = False

    async def parts(self, most_bytes: Callable[[FormPart], int]) -> AsyncIterator[StreamedPart]:
        """Yield the parts in order; ``most_bytes`` says how large one may be, by its headers, before it is read.

        Raises ValidationFailedError for what is no form, and for more parts than there may be.
        """
        await self._skip_preamble()
        for number in range(self._max_parts + 1):
            if await self._is_end():
                await self._skip_rest()
                return
            if number == self._max_parts:
                break
            head = await self._read_head()
            yield await self._read_content(head, most_bytes(part_with(head, b"")))
        raise malformed(f"it has more than {self._max_parts} parts")

    async def _skip_preamble(self) -> None:
        """Pass over text before the first boundary."""
        while (at := self._buffer.find(self._delimiter)) < 0:
            # What is left may be the beginning of the boundary.
            del self._buffer[: -len(self._delimiter)]
            if not await self._read_on():
                text = self._delimiter[4:].decode("latin-1")
                raise malformed(f"it does not have its boundary {text!r}") if self._received else cut_off()
        del self._buffer[: at + len(self._delimiter)]

    async def _is_end(self) -> bool:
        """Read the rest of the line of a boundary; return whether it was the last one."""
        while True:
            if self._buffer.startswith(b"--"):
                return True
            line_end = self._buffer.find(b"\r\n", 0, MAX_BOUNDARY)
            if line_end >= 0 and not self._buffer[:line_end].strip(b" \t"):
                # The line break stays: where a part has no headers and no content, it belongs to the next boundary.
                del self._buffer[:line_end]
                return False
            if line_end >= 0 or len(self._buffer) >= MAX_BOUNDARY:
                raise malformed("a line begins with the boundary, but is longer")
            if not await self._read_on():
                raise cut_off()

    async def _read_head(self) -> bytes:
        """Read the headers of a part, and leave the line break before its content in the buffer."""
        while True:
            end = self._buffer.find(HEADERS_END, 0, MAX_PART_HEADER_BYTES + len(HEADERS_END) + 2)
            if end >= 0:
                head = bytes(self._buffer[2:end])
                del self._buffer[: end + 2]
                return head
            if len(self._buffer) > MAX_PART_HEADER_BYTES + len(HEADERS_END):
                raise malformed(f"a part has no empty line behind headers of at most {MAX_PART_HEADER_BYTES} bytes")
            if not await self._read_on():
                raise cut_off()

    async def _read_content(self, head: bytes, most_bytes: int) -> StreamedPart:
        """Read up to the next boundary; what is more than ``most_bytes`` is counted and dropped."""
        dropped, searched = 0, 0
        while (end := self._buffer.find(self._delimiter, searched)) < 0:
            if len(self._buffer) - 2 - len(self._delimiter) > most_bytes or dropped:
                surplus = max(0, len(self._buffer) - len(self._delimiter))
                dropped += surplus
                del self._buffer[:surplus]
            searched = max(0, len(self._buffer) - len(self._delimiter) + 1)
            if not await self._read_on():
                raise cut_off()
        size_bytes = max(0, dropped + end - 2)
        too_large = size_bytes > most_bytes
        data = b""
        if not too_large:
            with memoryview(self._buffer) as view:
                data = bytes(view[2:end])
        del self._buffer[: end + len(self._delimiter)]
        return StreamedPart(part_with(head, data), size_bytes, too_large)

    async def _skip_rest(self) -> None:
        """Pass over text behind the last boundary."""
        self._buffer.clear()
        while await self._read_on():
            self._buffer.clear()

    async def _read_on(self) -> bool:
        """Append the next piece; return whether there was one."""
        piece = await self._next_piece()
        if piece is None:
            return False
        self._received = self._received or bool(piece)
        self._buffer += piece
        return True
