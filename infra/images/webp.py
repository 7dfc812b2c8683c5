"""Reads the chunks of a WebP, and the size in its coded picture."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from infra.images.errors import DamagedImageError, EmptyImageError, UnsupportedImageError
from infra.images.png import Chunk

LOSSY, LOSSLESS, EXTENDED = b"VP8 ", b"VP8L", b"VP8X"

_MAX_CHUNKS = 1_024
_ALPHA = b"ALPH"
_ANIMATED = 0x02
_FIRST_CHUNK = 12


def matches(data: bytes) -> bool:
    """Whether ``data`` begins as a WebP file."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def read_chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks of ``data``.

    Raises DamagedImageError when one reaches behind the end of the file, or no decoder finds the picture among them.
    """
    file_end = int.from_bytes(data[4:8], "little") + 8
    if file_end > len(data):
        raise DamagedImageError(f"the WebP file should have {file_end} bytes but has {len(data)}; it was cut off")
    position = _FIRST_CHUNK
    for _ in range(_MAX_CHUNKS):
        if position + 8 > file_end:
            return
        kind, length = struct.unpack_from("<4sI", data, position)
        start, end = position + 8, position + 8 + length
        if end > file_end:
            raise DamagedImageError(f"WebP chunk {kind!r} reaches behind the end of the file; it was cut off")
        if position == _FIRST_CHUNK and kind not in (LOSSY, LOSSLESS, EXTENDED):
            raise DamagedImageError(
                f"the WebP file begins with chunk {kind!r} instead of its picture or its header VP8X"
            )
        if kind == _ALPHA and not _is_alpha(data[start : min(end, start + 1)]):
            raise DamagedImageError(
                "the transparency of the WebP picture (chunk ALPH) is of no known kind; it is damaged"
            )
        yield Chunk(kind, start, end)
        position = end + length % 2
    raise DamagedImageError(f"the WebP file has more than {_MAX_CHUNKS} chunks")


def _is_alpha(first: bytes) -> bool:
    """Return whether an ALPH chunk may begin with ``first``: packing and preparation are 0 or 1, two bits are 0."""
    return bool(first) and first[0] & 3 <= 1 and first[0] >> 4 & 3 <= 1 and not first[0] >> 6


def read_size(data: bytes, chunk: Chunk, admit: Callable[[int, int], None]) -> tuple[int, int] | None:
    """Return the size of the picture in ``chunk``; None when it holds none.

    ``admit`` gets each size that a decoder takes memory for, before this returns. Raises UnsupportedImageError for an
    animation.
    """
    if chunk.kind == EXTENDED:
        admit(*_canvas(data, chunk))
        return None
    if chunk.kind not in (LOSSY, LOSSLESS):
        return None
    width, height = _lossy_size(data, chunk) if chunk.kind == LOSSY else _lossless_size(data, chunk)
    if not width or not height:
        raise EmptyImageError(f"the WebP header says {width}×{height} pixels")
    admit(width, height)
    return width, height


def size_of(data: bytes) -> tuple[int, int]:
    """Return the size of the picture of ``data``. Raises UnreadableImageError if our decoders do not read it."""
    canvas: list[tuple[int, int]] = []
    for chunk in read_chunks(data):
        size = read_size(data, chunk, lambda width, height: canvas.append((width, height)))
        if size is not None:
            require_whole(canvas[0], size)
            return size
    raise DamagedImageError("the WebP file holds no picture")


def require_whole(canvas: tuple[int, int], size: tuple[int, int]) -> None:
    """Raise DamagedImageError unless the picture fills its canvas, as it does when there is no animation."""
    if canvas != size:
        raise DamagedImageError(
            f"the WebP header says {canvas[0]}×{canvas[1]} px, its picture has {size[0]}×{size[1]}; it is damaged"
        )


def _canvas(data: bytes, chunk: Chunk) -> tuple[int, int]:
    if chunk.end - chunk.start < 10:
        raise DamagedImageError("the WebP header chunk VP8X is too short")
    if data[chunk.start] & _ANIMATED:
        raise UnsupportedImageError("the WebP file is an animation; send one picture per frame")
    at = chunk.start + 4
    return 1 + int.from_bytes(data[at : at + 3], "little"), 1 + int.from_bytes(data[at + 3 : at + 6], "little")


def _lossy_size(data: bytes, chunk: Chunk) -> tuple[int, int]:
    start, end = chunk.start, chunk.end
    if end - start < 10 or data[start + 3 : start + 6] != b"\x9d\x01\x2a":
        raise DamagedImageError("the WebP picture has no VP8 key frame header")
    tag = int.from_bytes(data[start : start + 3], "little")
    if tag & 1:
        raise DamagedImageError("the WebP picture is not a key frame")
    if tag >> 5 > end - start:
        raise DamagedImageError("the first partition of the WebP picture is longer than its chunk; it was cut off")
    width, height = struct.unpack_from("<HH", data, start + 6)
    return width & 0x3FFF, height & 0x3FFF


def _lossless_size(data: bytes, chunk: Chunk) -> tuple[int, int]:
    start, end = chunk.start, chunk.end
    if end - start < 5 or data[start] != 0x2F:
        raise DamagedImageError("the WebP picture has no VP8L header")
    bits = int.from_bytes(data[start + 1 : start + 5], "little")
    if bits >> 29:
        raise UnsupportedImageError(f"WebP lossless version {bits >> 29} is not supported; there is only version 0")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
