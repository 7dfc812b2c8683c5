"""Reads protobuf messages in a mapped file, up to a number of fields, so that any file takes bounded time."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Kinds of fields that are read."""
MOST_FIELDS = 3_000_000
"""A graph of 100,000 nodes has about so many; reading as many takes some seconds."""
LONGEST_TEXT = 64 << 20
"""How many bytes of names and metadata are read in all."""

Span = tuple[int, int]
"""Start and end of a message in the file."""
Field = tuple[int, int, int, int]
"""Number, value (of a varint, else 0), start and end of the payload in the file."""


class MessageReader:
    """Reads the messages of one file. Every method raises ValueError or IndexError for what is no protobuf."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self._left = MOST_FIELDS
        self._text_left = LONGEST_TEXT

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """Yield the fields of the message at ``start`` up to ``end``, without those inside of them."""
        data, at = self.data, start
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"it has more than {MOST_FIELDS:,} parts; no detector has so many")
            tag, at = _varint(data, at)
            number, wire = tag >> 3, tag & 7
            value, size = 0, 0
            if wire == VARINT:
                value, at = _varint(data, at)
            elif wire == BYTES:
                size, at = _varint(data, at)
            elif wire in (FIXED64, FIXED32):
                size = 8 if wire == FIXED64 else 4
            else:
                raise ValueError(f"unknown wire type {wire} at byte {at}")
            if number == 0 or at + size > end:
                raise ValueError(f"a field at byte {at} leaves its message")
            yield number, value, at, at + size
            at += size

    def messages(self, span: Span, wanted: int) -> list[Span]:
        """Return where the fields with number ``wanted`` are."""
        return [(low, high) for number, _, low, high in self.fields(*span) if number == wanted]

    def text(self, span: Span, wanted: int) -> str:
        """Return the last field with number ``wanted`` as text; empty without one."""
        found = self.messages(span, wanted)
        return self.string(*found[-1]) if found else ""

    def string(self, start: int, end: int) -> str:
        """Return the text at ``start`` up to ``end``."""
        self._text_left -= end - start
        if self._text_left < 0:
            raise ValueError(f"its names and metadata have more than {LONGEST_TEXT:,} bytes")
        return self.data[start:end].decode()

    def number(self, span: Span, wanted: int) -> int:
        """Return the first number in field ``wanted``; 0 without one."""
        return next((value for number, value, _, _ in self.fields(*span) if number == wanted), 0)

    def packed(self, start: int, end: int) -> list[int]:
        """Return the numbers of a packed field, each 7 bits a byte."""
        values = []
        while start < end:
            value, start = _varint(self.data, start)
            values.append(value)
        return values


def signed(value: int) -> int:
    """Return the number of 64 bits whose two's complement is ``value``."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """Return the number that starts at ``at``, 7 bits a byte, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number at byte {at} does not end")
