"""Scans WebP files: reads the RIFF container, its chunks, and the size in the coded image."""

from __future__ import annotations

import struct

from ingest.images.formats.header import Admit, CorruptedFileError, Header, InvalidFormatError, Metadata, Span

_MAX_CHUNKS = 1_024
_ANIMATED = 0x02


def matches(data: bytes) -> bool:
    """Whether ``data`` begins as a WebP file."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def scan(data: bytes, admit: Admit) -> Header:
    """Return the header of a WebP file. Raises ImageError if it is animated, refused by ``admit``, or cut off."""
    (riff_bytes,) = struct.unpack_from("<I", data, 4)
    file_end = riff_bytes + 8
    if file_end > len(data):
        raise CorruptedFileError(f"the WebP file should have {file_end} bytes but has {len(data)}; it was cut off")
    size = None
    metadata = Metadata()
    position = 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > file_end:
            break
        kind, length = struct.unpack_from("<4sI", data, position)
        start, end = position + 8, position + 8 + length
        if end > file_end:
            raise CorruptedFileError(f"WebP chunk {kind!r} reaches behind the end of the file; it was cut off")
        if kind == b"VP8X":
            _check_extended(data, start, end, admit)
        elif kind in (b"VP8 ", b"VP8L") and size is None:
            size = _lossy_size(data, start, end) if kind == b"VP8 " else _lossless_size(data, start, end)
            admit(*size)
        elif kind == b"EXIF":
            metadata.exif.append(Span(start, end))
        elif kind == b"XMP ":
            metadata.xmp.append(Span(start, end))
        position = end + length % 2
    else:
        raise CorruptedFileError(f"the WebP file has more than {_MAX_CHUNKS} chunks")
    if size is None:
        raise CorruptedFileError("the WebP file holds no picture")
    return Header(*size, metadata)


def _check_extended(data: bytes, start: int, end: int, admit: Admit) -> None:
    if end - start < 10:
        raise CorruptedFileError("the WebP header chunk VP8X is too short")
    if data[start] & _ANIMATED:
        raise InvalidFormatError("the WebP file is an animation; send one picture per frame")
    # Decoders allocate the canvas, so its size must be checked too.
    admit(
        1 + int.from_bytes(data[start + 4 : start + 7], "little"),
        1 + int.from_bytes(data[start + 7 : end][:3], "little"),
    )


def _lossy_size(data: bytes, start: int, end: int) -> tuple[int, int]:
    if end - start < 10 or data[start + 3 : start + 6] != b"\x9d\x01\x2a":
        raise CorruptedFileError("the WebP picture has no VP8 key frame header")
    tag = int.from_bytes(data[start : start + 3], "little")
    if tag & 1:
        raise CorruptedFileError("the WebP picture is not a key frame")
    if tag >> 5 > end - start:
        raise CorruptedFileError("the first partition of the WebP picture is longer than its chunk; it was cut off")
    width, height = struct.unpack_from("<HH", data, start + 6)
    return width & 0x3FFF, height & 0x3FFF


def _lossless_size(data: bytes, start: int, end: int) -> tuple[int, int]:
    if end - start < 5 or data[start] != 0x2F:
        raise CorruptedFileError("the WebP picture has no VP8L header")
    bits = int.from_bytes(data[start + 1 : start + 5], "little")
    if bits >> 29:
        raise InvalidFormatError(f"WebP lossless version {bits >> 29} is not supported; there is only version 0")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
