"""Reads the header of a PNG, and where its chunks are."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from infra.images.errors import DamagedImageError, EmptyImageError, UnsupportedImageError

MAGIC: Final = b"\x89PNG\r\n\x1a\n"
FIRST_CHUNK: Final = len(MAGIC)
CHUNK_FRAME: Final = 12
"""The bytes of a chunk beside its content: length, kind and checksum."""
DEFLATE_MOST: Final = 1_032
"""Deflate makes at most so many bytes of one."""

_MAX_CHUNKS = 16_384
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


_CHECKED = frozenset((b"IHDR", b"PLTE", b"IDAT"))
_COLOUR_AT = FIRST_CHUNK + 17
_PALETTE = 3
_MOST_COLOURS = 256


class Chunk(NamedTuple):
    """Is a chunk of a file: its content is from ``start`` (inclusive) to ``end`` (exclusive)."""

    kind: bytes
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class PngHeader:
    """Describes the picture of a PNG by its first chunk."""

    width: int
    height: int
    raw_bytes: int
    """The bytes of its unpacked pixels."""


def read_header(data: bytes) -> PngHeader:
    """Return the header of ``data``. Raises UnreadableImageError if it is damaged or not in the standard."""
    if len(data) < FIRST_CHUNK + 25:
        raise DamagedImageError("the PNG file ends inside its header; it was cut off")
    length, kind, width, height, depth, colour, packing, filtering, interlace, crc = struct.unpack_from(
        ">I4sIIBBBBBI", data, FIRST_CHUNK
    )
    if kind != b"IHDR" or length != 13:
        raise DamagedImageError("the PNG file does not begin with its IHDR chunk")
    if zlib.crc32(data[FIRST_CHUNK + 4 : FIRST_CHUNK + 21]) != crc:
        raise DamagedImageError("the checksum of the PNG header is wrong; the file is damaged")
    if depth not in _DEPTHS.get(colour, ()) or packing or filtering or interlace > 1:
        raise UnsupportedImageError(
            f"PNG with colour type {colour}, {depth} bits, compression {packing}, filter {filtering} and interlace "
            f"{interlace} is not in the PNG standard"
        )
    if not width or not height:
        raise EmptyImageError(f"the PNG header says {width}×{height} pixels")
    return PngHeader(width, height, height * (width * depth * _CHANNELS[colour] // 8))


def read_chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks up to IEND.

    Raises DamagedImageError when one reaches behind the end of the file, or a chunk that the picture needs is wrong:
    its checksum, its place or its first bytes.
    """
    position = FIRST_CHUNK
    needed = _NeededChunks(data)
    for _ in range(_MAX_CHUNKS):
        if position + CHUNK_FRAME > len(data):
            raise DamagedImageError("the PNG file ends before its IEND chunk; it was cut off")
        length, kind = struct.unpack_from(">I4s", data, position)
        start, end = position + 8, position + 8 + length
        if end + 4 > len(data):
            raise DamagedImageError(
                f"the PNG chunk {kind!r} claims {length} bytes and reaches behind the end of the file; it was cut off"
            )
        chunk = Chunk(kind, start, end)
        if kind in _CHECKED:
            needed.check(chunk)
        yield chunk
        if kind == b"IEND":
            return
        position = end + 4
    raise DamagedImageError(f"the PNG file has more than {_MAX_CHUNKS} chunks; save it again")


class _NeededChunks:
    """Checks one after the other the chunks without which no decoder has a picture."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._needs_palette = data[_COLOUR_AT : _COLOUR_AT + 1] == bytes((_PALETTE,))
        self._first_bytes = b""

    def check(self, chunk: Chunk) -> None:
        """Raise DamagedImageError unless ``chunk`` may follow the ones before, and its content is as it was written."""
        data, (kind, start, end) = self._data, chunk
        if int.from_bytes(data[end : end + 4]) != zlib.crc32(memoryview(data)[start - 4 : end]):
            raise DamagedImageError(f"the checksum of the PNG chunk {kind.decode()} is wrong; the file is damaged")
        if kind == b"IHDR" and start != FIRST_CHUNK + 8:
            raise DamagedImageError("the PNG file has two headers (IHDR); it is damaged")
        if kind == b"PLTE":
            colours, rest = divmod(end - start, 3)
            if self._needs_palette and (rest or not 1 <= colours <= _MOST_COLOURS):
                raise DamagedImageError(
                    f"the PNG palette has {end - start} bytes; it has 3 for each of 1 to 256 colours"
                )
            self._needs_palette = False
        if kind == b"IDAT" and len(self._first_bytes) < 2:
            self._check_data(data[start : min(end, start + 2)])

    def _check_data(self, first: bytes) -> None:
        if self._needs_palette:
            raise DamagedImageError("the PNG file has no palette (PLTE) before its picture data; it is damaged")
        self._first_bytes = (self._first_bytes + first)[:2]
        if len(self._first_bytes) == 2:
            method, flags = self._first_bytes
            if method & 15 != 8 or method >> 4 > 7 or flags & 32 or (method << 8 | flags) % 31:
                raise DamagedImageError("the PNG picture data does not begin as deflate data with a zlib header")
