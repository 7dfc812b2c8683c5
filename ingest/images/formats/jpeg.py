"""Scans JPEG files: reads the segments before the first scan, and checks that the file is complete."""

from __future__ import annotations

from typing import Final

from infra.images.jpeg import (
    DQT,
    EOI,
    FRAMES,
    MAGIC,
    MAX_SEGMENTS,
    SOI,
    SOS,
    JpegFrame,
    check_scans,
    read_frame,
    require_tables,
    segments,
)
from ingest.images.formats.header import Admit, CorruptedFileError, Header, Metadata, Span

__all__ = ["MAGIC", "scan"]

_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/"
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
# Some programs leave the segment's header out and begin with the packet.
_BARE_XMP = (b"<?xpacket", b"<x:xmpmeta")
_APP1: Final = 0xE1


def scan(data: bytes, admit: Admit, max_pixels: int) -> Header:
    """Return the header of a JPEG file.

    Raises ImageError or UnreadableImageError if it is unsupported, refused by ``admit``, cut off, or has more scans
    than a picture of ``max_pixels`` needs.
    """
    frame: JpegFrame | None = None
    metadata = Metadata()
    has_tables = False
    for marker, start, end in segments(data):
        if marker in (SOI, EOI):
            raise CorruptedFileError("the JPEG file holds no picture: it ends before its first scan")
        if marker in FRAMES:
            if frame is not None:
                raise CorruptedFileError("the JPEG file has two frame headers; it is damaged")
            frame = read_frame(data, marker, start, end)
            admit(frame.width, frame.height)
        elif marker == _APP1:
            _note_metadata(data, Span(start, end), metadata)
        elif marker == DQT:
            has_tables = True
        elif marker == SOS:
            if frame is None:
                raise CorruptedFileError("the JPEG file has a scan before its frame header")
            check_scans(data, frame, start, max_pixels)
            _check_end(data, end, frame)
            require_tables(found=has_tables)
            return Header(frame.width, frame.height, metadata)
    raise CorruptedFileError(f"the JPEG file has more than {MAX_SEGMENTS} segments before its first scan")


def _note_metadata(data: bytes, content: Span, metadata: Metadata) -> None:
    """Add to ``metadata`` what an APP1 segment holds."""
    start, end = content
    if data.startswith(_EXIF, start, end):
        metadata.exif.append(Span(start + len(_EXIF), end))
    elif data.startswith(_XMP, start, end):
        metadata.xmp.append(Span(start + len(_XMP), end))
    elif data.startswith(_EXTENDED_XMP, start, end):
        metadata.extended_xmp.append(Span(start + len(_EXTENDED_XMP), end))
    elif data.startswith(_BARE_XMP, start, end):
        metadata.xmp.append(content)


def _check_end(data: bytes, scan_start: int, frame: JpegFrame) -> None:
    """Raise CorruptedFileError unless an end marker follows the scan, and the scan has enough bytes for the image.

    In coded data 0xFF is always stuffed, so an EOI after the scan's start is that of the image, or of a preview that
    cameras write after it. It is mostly at the end of the file, so the search begins there.
    """
    end = data.rfind(b"\xff\xd9", scan_start)
    if end < 0:
        raise CorruptedFileError("the JPEG file has no end marker behind its scan; it was cut off")
    # Huffman codes are at least one bit long: one for DC per block, and in baseline one for its AC coefficients.
    least_bytes = sum(frame.blocks.values()) * (1 if frame.progressive else 2) // 8
    if end - scan_start < least_bytes:
        raise CorruptedFileError(
            f"the JPEG scan has {end - scan_start} bytes, but {frame.width}x{frame.height} px need at least "
            f"{least_bytes}; the file is damaged"
        )
