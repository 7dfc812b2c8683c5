"""Writes TIFF files byte by byte, also those that no library writes."""

from __future__ import annotations

import struct
from collections.abc import Mapping


def tiff_bytes(
    content: bytes, tags: Mapping[int, int | tuple[int, ...]], *, following: int = 0, big: bool = False
) -> bytes:
    """Return a TIFF of one directory with ``tags``, whose only strip is ``content`` unless they say something else.

    following: where the next directory begins.
    """
    first = 16 if big else 8
    values = {273: first, 279: len(content), **tags}
    at = first + len(content)
    count, row, inline = ("<Q", 20, 8) if big else ("<H", 12, 4)
    word = "Q" if big else "I"
    beyond = at + struct.calcsize(count) + row * len(values) + inline
    table, extra = struct.pack(count, len(values)), b""
    for tag, value in sorted(values.items()):
        several = value if isinstance(value, tuple) else (value,)
        packed = struct.pack(f"<{len(several)}{word}", *several)
        place = packed if len(packed) <= inline else struct.pack(f"<{word}", beyond + len(extra))
        extra += packed if len(packed) > inline else b""
        table += struct.pack(f"<HH{word}", tag, 16 if big else 4, len(several)) + place
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, at) if big else struct.pack("<2sHI", b"II", 42, at)
    return head + content + table + struct.pack(f"<{word}", following) + extra
