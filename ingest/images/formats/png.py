"""Scans PNG files: reads the header and every chunk up to IEND."""

from __future__ import annotations

from infra.images.png import DEFLATE_MOST, MAGIC, read_chunks, read_header
from ingest.images.formats.header import Admit, CorruptedFileError, Header, Metadata, Span

__all__ = ["MAGIC", "scan"]

_MAX_METADATA = 64
_XMP = b"XML:com.adobe.xmp\0\0\0"
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
# Packed texts, and what ImageMagick wrote before PNG had a chunk for EXIF.
_UNREAD = {
    b"XML:com.adobe.xmp\0\1": "compressed XMP",
    b"Raw profile type exif\0": "a raw profile of EXIF",
    b"Raw profile type APP1\0": "a raw profile of EXIF",
    b"Raw profile type xmp\0": "a raw profile of XMP",
}


def scan(data: bytes, admit: Admit) -> Header:
    """Return the header of a PNG file.

    Raises ImageError or UnreadableImageError if it is not PNG, refused by ``admit``, or cut off.
    """
    header = read_header(data)
    admit(header.width, header.height)
    metadata = Metadata()
    coded_bytes = 0
    for kind, start, end in read_chunks(data):
        if kind == b"IDAT":
            coded_bytes += end - start
        elif kind == b"eXIf" and len(metadata.exif) < _MAX_METADATA:
            metadata.exif.append(Span(start, end))
        elif kind == b"iTXt" and len(metadata.xmp) < _MAX_METADATA and data.startswith(_XMP, start, end):
            metadata.xmp.extend(_after_language(data, start + len(_XMP), end))
        elif kind in _TEXTS:
            metadata.unread.update(name for mark, name in _UNREAD.items() if data.startswith(mark, start, end))
    # Less data cannot contain the image.
    if coded_bytes < header.raw_bytes // DEFLATE_MOST or coded_bytes == 0:
        raise CorruptedFileError(
            f"the PNG file has {coded_bytes} bytes of picture data, too few for {header.width}x{header.height} px"
        )
    return Header(header.width, header.height, metadata)


def _after_language(data: bytes, start: int, end: int) -> list[Span]:
    """Return the text of an iTXt chunk after its language tag and translated keyword; empty if both do not end."""
    language_end = data.find(b"\0", start, end)
    keyword_end = data.find(b"\0", language_end + 1, end) if language_end >= 0 else -1
    return [Span(keyword_end + 1, end)] if keyword_end >= 0 else []
