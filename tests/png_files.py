"""Writes PNG files chunk by chunk, also those that no library writes."""

from __future__ import annotations

import struct
import zlib


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a whole chunk: length, ``kind``, ``content`` and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
