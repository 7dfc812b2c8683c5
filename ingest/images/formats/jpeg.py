"""Scans JPEG files: reads the segments before the first scan, and checks that the file is complete."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ingest.images.formats.header import (
    Admit,
    CorruptedFileError,
    Header,
    InvalidDimensionsError,
    InvalidFormatError,
    Metadata,
    Span,
)

MAGIC = b"\xff\xd8\xff"

_MAX_SEGMENTS = 2_048
_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/"
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
# Some programs leave the segment's header out and begin with the packet.
_BARE_XMP = (b"<?xpacket", b"<x:xmpmeta")
_APP1, _SOS, _EOI, _SOI = 0xE1, 0xDA, 0xD9, 0xD8
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# The processes that our decoders support: Huffman-coded baseline, extended and progressive.
_SUPPORTED = {0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive"}


@dataclass(slots=True)
class _JpegFrame:
    width: int
    height: int
    blocks: int
    progressive: bool


def scan(data: bytes, admit: Admit) -> Header:
    """Return the header of a JPEG file. Raises ImageError if it is unsupported, refused by ``admit``, or cut off."""
    frame: _JpegFrame | None = None
    metadata = Metadata()
    position = 2
    for _ in range(_MAX_SEGMENTS):
        marker, position = _next_marker(data, position)
        if marker in _STANDALONE:
            continue
        if marker in (_SOI, _EOI):
            raise CorruptedFileError("the JPEG file holds no picture: it ends before its first scan")
        (length,) = struct.unpack_from(">H", data, position)
        start, end = position + 2, position + length
        if length < 2 or end > len(data):
            raise CorruptedFileError(f"JPEG segment 0x{marker:02X} reaches behind the end of the file; it was cut off")
        if marker in _FRAMES and frame is None:
            frame = _read_frame(data, marker, Span(start, end), admit)
        elif marker == _APP1:
            _note_metadata(data, Span(start, end), metadata)
        elif marker == _SOS:
            if frame is None:
                raise CorruptedFileError("the JPEG file has a scan before its frame header")
            _check_end(data, end, frame)
            return Header(frame.width, frame.height, metadata)
        position = end
    raise CorruptedFileError(f"the JPEG file has more than {_MAX_SEGMENTS} segments before its first scan")


def _note_metadata(data: bytes, segment: Span, metadata: Metadata) -> None:
    """Add to ``metadata`` what an APP1 segment holds."""
    start, end = segment
    if data.startswith(_EXIF, start, end):
        metadata.exif.append(Span(start + len(_EXIF), end))
    elif data.startswith(_XMP, start, end):
        metadata.xmp.append(Span(start + len(_XMP), end))
    elif data.startswith(_EXTENDED_XMP, start, end):
        metadata.extended_xmp.append(Span(start + len(_EXTENDED_XMP), end))
    elif data.startswith(_BARE_XMP, start, end):
        metadata.xmp.append(segment)


def _next_marker(data: bytes, position: int) -> tuple[int, int]:
    """Return the marker at ``position`` (after any fill bytes 0xFF) and the position after it."""
    if position >= len(data):
        raise CorruptedFileError("the JPEG file ends inside its header; it was cut off")
    if data[position] != 0xFF:
        raise CorruptedFileError(f"the JPEG file has no marker at byte {position}, where one must be")
    # There may be many fill bytes, so they are skipped 63 at a time.
    while data.startswith(b"\xff" * 64, position):
        position += 63
    while position < len(data) and data[position] == 0xFF:
        position += 1
    if position >= len(data):
        raise CorruptedFileError("the JPEG file ends inside its header; it was cut off")
    return data[position], position + 1


def _read_frame(data: bytes, marker: int, span: Span, admit: Admit) -> _JpegFrame:
    if marker not in _SUPPORTED:
        kinds = ", ".join(_SUPPORTED.values())
        raise InvalidFormatError(f"JPEG process SOF{marker - 0xC0} is not supported; write one of {kinds} JPEG")
    precision, height, width, components = struct.unpack_from(">BHHB", data, span.start)
    if span.end - span.start < 6 + 3 * components:
        raise CorruptedFileError("the JPEG frame header is shorter than its components need")
    if precision != 8:
        raise InvalidFormatError(f"JPEG with {precision} bits per sample is not supported; write 8")
    if components not in (1, 3, 4):
        raise InvalidFormatError(f"JPEG with {components} components is not supported; write 1, 3 or 4")
    if height == 0:
        raise InvalidDimensionsError("the JPEG header leaves the height open (0 lines); write the height")
    admit(width, height)
    return _JpegFrame(width, height, _count_blocks(data, span, width, height), marker == 0xC2)


def _count_blocks(data: bytes, span: Span, width: int, height: int) -> int:
    """Return the least number of 8x8 blocks of an image of this size and sampling."""
    factors = [divmod(data[at], 16) for at in range(span.start + 7, span.end, 3)][: data[span.start + 5]]
    if any(not (1 <= h <= 4 and 1 <= v <= 4) for h, v in factors):
        raise CorruptedFileError("the JPEG frame header has a sampling factor outside 1 to 4")
    widest, tallest = max(h for h, _ in factors), max(v for _, v in factors)
    return sum(-(-width * h // (8 * widest)) * -(-height * v // (8 * tallest)) for h, v in factors)


def _check_end(data: bytes, scan_start: int, frame: _JpegFrame) -> None:
    """Raise CorruptedFileError unless an end marker follows the scan, and the scan has enough bytes for the image.

    In coded data 0xFF is always stuffed, so an EOI after the scan's start is that of the image, or of a preview that
    cameras write after it. It is mostly at the end of the file, so the search begins there.
    """
    end = data.rfind(b"\xff\xd9", scan_start)
    if end < 0:
        raise CorruptedFileError("the JPEG file has no end marker behind its scan; it was cut off")
    # Huffman codes are at least one bit long: one for DC per block, and in baseline one for its AC coefficients.
    least_bytes = frame.blocks * (1 if frame.progressive else 2) // 8
    if end - scan_start < least_bytes:
        raise CorruptedFileError(
            f"the JPEG scan has {end - scan_start} bytes, but {frame.width}x{frame.height} px need at least "
            f"{least_bytes}; the file is damaged"
        )
