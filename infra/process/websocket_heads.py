"""Follows the heads of WebSocket frames in a stream of bytes, so that limits hold before a payload is kept."""

from __future__ import annotations

from dataclasses import dataclass

TEXT, BINARY, CLOSE = 0x1, 0x2, 0x8
_CONTINUATION = 0x0
_FIRST_CONTROL = 0x8
_LENGTH_16, _LENGTH_64 = 126, 127
_MASK_BYTES = 4


@dataclass(frozen=True, slots=True)
class Head:
    """Is the head of one frame; ``end`` is where its payload begins in the bytes that were given."""

    opcode: int
    final: bool
    length: int
    end: int

    @property
    def is_control(self) -> bool:
        """Whether it is a close, ping or pong."""
        return self.opcode >= _FIRST_CONTROL

    @property
    def begins_message(self) -> bool:
        """Whether a message begins with it."""
        return not self.is_control and self.opcode != _CONTINUATION


class Heads:
    """Finds one head after the other; payloads are skipped, whatever is in them."""

    def __init__(self) -> None:
        self._begun = bytearray()
        self._payload_left = 0

    @property
    def payload_left(self) -> int:
        """How many bytes of the present frame's payload have not come yet."""
        return self._payload_left

    def next(self, data: bytes, start: int) -> Head | None:
        """Return the first head that is complete in ``data`` from ``start`` on, or None: all of it was followed."""
        at = start + min(self._payload_left, len(data) - start)
        self._payload_left -= at - start
        while at < len(data):
            wanted = self._size_of_head() - len(self._begun)
            piece = data[at : at + wanted]
            self._begun += piece
            at += len(piece)
            if len(self._begun) == self._size_of_head():
                return self._finish(at)
        return None

    def _size_of_head(self) -> int:
        if len(self._begun) < 2:
            return 2
        short = self._begun[1] & 0x7F
        extended = {_LENGTH_16: 2, _LENGTH_64: 8}.get(short, 0)
        return 2 + extended + (_MASK_BYTES if self._begun[1] & 0x80 else 0)

    def _finish(self, end: int) -> Head:
        first, second = self._begun[0], self._begun[1]
        length = second & 0x7F
        if length >= _LENGTH_16:
            length = int.from_bytes(self._begun[2 : 4 if length == _LENGTH_16 else 10], "big")
        self._begun.clear()
        self._payload_left = length
        return Head(first & 0x0F, bool(first & 0x80), length, end)
