"""Scans PNG files: reads the header and every chunk up to IEND."""

from __future__ import annotations

import struct
import zlib

from ingest.images.formats.header import Admit, CorruptedFileError, Header, InvalidFormatError, Metadata, Span

MAGIC = b"\x89PNG\r\n\x1a\n"

_MAX_CHUNKS = 65_536
_MAX_METADATA = 64
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_XMP = b"XML:com.adobe.xmp\0\0\0"
# The highest compression of deflate: less data than size/1032 cannot contain the image.
_DEFLATE_MOST = 1_032


def scan(data: bytes, admit: Admit) -> Header:
    """Return the header of a PNG file. Raises ImageError if it is not PNG, refused by ``admit``, or cut off."""
    width, height, raw_bytes = _read_header(data, admit)
    metadata = Metadata()
    coded_bytes = 0
    position = len(MAGIC) + 25
    for _ in range(_MAX_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, position)
        start, end = position + 8, position + 8 + length
        if end + 4 > len(data):
            raise CorruptedFileError(f"PNG chunk {kind!r} reaches behind the end of the file; it was cut off")
        if kind == b"IEND":
            if coded_bytes < raw_bytes // _DEFLATE_MOST or coded_bytes == 0:
                raise CorruptedFileError(
                    f"the PNG file has {coded_bytes} bytes of picture data, too few for {width}x{height} px"
                )
            return Header(width, height, metadata)
        if kind == b"IDAT":
            coded_bytes += length
        elif kind == b"eXIf" and len(metadata.exif) < _MAX_METADATA:
            metadata.exif.append(Span(start, end))
        elif kind == b"iTXt" and len(metadata.xmp) < _MAX_METADATA and data.startswith(_XMP, start, end):
            metadata.xmp.extend(_after_language(data, start + len(_XMP), end))
        position = end + 4
    raise CorruptedFileError(f"the PNG file has more than {_MAX_CHUNKS} chunks")


def _read_header(data: bytes, admit: Admit) -> tuple[int, int, int]:
    """Return width, height, and the bytes of the unpacked image."""
    length, kind, width, height, depth, colour, packing, filtering, interlace = struct.unpack_from(
        ">I4sIIBBBBB", data, len(MAGIC)
    )
    if kind != b"IHDR" or length != 13:
        raise CorruptedFileError("the PNG file does not begin with its IHDR chunk")
    (crc,) = struct.unpack_from(">I", data, len(MAGIC) + 21)
    if zlib.crc32(data[len(MAGIC) + 4 : len(MAGIC) + 21]) != crc:
        raise CorruptedFileError("the checksum of the PNG header is wrong; the file is damaged")
    if depth not in _DEPTHS.get(colour, ()) or packing or filtering or interlace > 1:
        raise InvalidFormatError(
            f"PNG with colour type {colour}, {depth} bits, compression {packing}, filter {filtering} and interlace "
            f"{interlace} is not in the PNG standard"
        )
    admit(width, height)
    return width, height, height * (width * depth * _CHANNELS[colour] // 8)


def _after_language(data: bytes, start: int, end: int) -> list[Span]:
    """Return the text of an iTXt chunk after its language tag and translated keyword; empty if both do not end."""
    language_end = data.find(b"\0", start, end)
    keyword_end = data.find(b"\0", language_end + 1, end) if language_end >= 0 else -1
    return [Span(keyword_end + 1, end)] if keyword_end >= 0 else []
