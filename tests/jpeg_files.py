"""Writes JPEG files that cameras and attackers write and no library does."""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_RUN = 32_767
"""The longest run of empty blocks: one symbol of 1 bit, and 14 bits of its length."""


def noise(width: int = 64, height: int = 48, seed: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def jpeg(width: int = 64, height: int = 48, mode: str = "RGB", **options: object) -> bytes:
    """Return a JPEG of noise; ``options`` are Pillow's."""
    out = BytesIO()
    Image.fromarray(noise(width, height)).convert(mode).save(out, "JPEG", **options)
    return out.getvalue()


def scan_bomb(width: int, height: int, scans: int, *, components: int = 1) -> bytes:
    """Return a progressive JPEG of ``scans`` refining scans, each of a few bytes for the whole picture."""
    numbers = range(1, components + 1)
    parts = [b"\xff\xd8", _segment(0xDB, b"\0" + bytes([1] * 64))]
    parts.append(
        _segment(
            0xC2,
            struct.pack(">BHHB", 8, height, width, components) + b"".join(bytes((n, 0x11, 0)) for n in numbers),
        )
    )
    # One code of one bit in each table: DC difference 0, and a run of empty blocks.
    parts += [_segment(0xC4, bytes((table, 1, *[0] * 15, symbol))) for table, symbol in ((0, 0), (0x10, 0xE0))]
    blocks = -(-width // 8) * -(-height // 8)
    for number in numbers:
        parts += [_scan(number, 0, 0, 0), _bits("0" * blocks)]
    empty = _bits("011111111111111" * -(-blocks // _RUN))
    for index in range(scans):
        parts += [_scan(1 + index % components, 1, 63, 0x10), empty]
    return b"".join([*parts, b"\xff\xd9"])


def _segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def _scan(number: int, first: int, last: int, bits: int) -> bytes:
    return _segment(0xDA, bytes((1, number, 0, first, last, bits)))


def _bits(text: str) -> bytes:
    padded = text + "1" * (-len(text) % 8)
    return int(padded, 2).to_bytes(len(padded) // 8).replace(b"\xff", b"\xff\0")
