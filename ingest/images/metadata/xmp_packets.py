"""Collects a picture's XMP packets: of the file, inside of EXIF, and in parts behind the first 64 KiB."""

from __future__ import annotations

import codecs
import struct
from collections.abc import Sequence
from typing import NamedTuple

from ingest.images.formats.header import Metadata, Span
from ingest.images.metadata.exif_tags import Buffer, ExifTags
from ingest.images.metadata.warnings import Warnings
from ingest.images.metadata.xmp_document import XmpValues, read_documents

MAX_XMP_BYTES = 1 << 19
"""Read of all packets together, the extended one included."""

_MAX_PACKETS = 8
_MAX_PARTS = 256
_GUID_BYTES = 32
_PART_HEADER = _GUID_BYTES + 8
# The longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SEARCHED_BYTES = 256
# Where the byte of an ASCII character is, and how many bytes a character has.
_ASCII_BYTES = {"utf-16-le": (0, 2), "utf-16-be": (1, 2), "utf-32-le": (0, 4), "utf-32-be": (3, 4)}


class _Part(NamedTuple):
    guid: bytes
    full: int
    offset: int
    content: Span


def read_xmp(data: Buffer, metadata: Metadata, tags: ExifTags, warnings: Warnings) -> dict[str, str]:
    """Return the wanted properties of all packets by name; of several values the first counts."""
    values = XmpValues()
    packets = _packets(data, metadata, tags, warnings)
    extended = _extended(data, metadata.extended_xmp, packets, warnings) if metadata.extended_xmp else None
    for packet in (*packets, *([extended] if extended else ())):
        read_documents(_decode(packet), values, warnings)
    for name in sorted(values.contradicted):
        warnings.add(f"XMP has several values of {name}; the first was used")
    return values.found


def _packets(data: Buffer, metadata: Metadata, tags: ExifTags, warnings: Warnings) -> list[bytes]:
    left = MAX_XMP_BYTES
    found: list[bytes] = []
    inner = [directory.raw(tag, MAX_XMP_BYTES + 1) for directory, tag in tags.packets]
    outer = (data[span.start : min(span.end, span.start + MAX_XMP_BYTES + 1)] for span in metadata.xmp)
    for count, packet in enumerate((*inner, *outer)):
        if count >= _MAX_PACKETS or left <= 0:
            warnings.add(f"the picture has more XMP than is read ({_MAX_PACKETS} packets of {MAX_XMP_BYTES} bytes)")
            break
        if len(packet) > left:
            warnings.add(f"XMP of more than {MAX_XMP_BYTES} bytes was read only up to there")
        found.append(packet[:left])
        left -= len(packet)
    return found


def _extended(data: Buffer, spans: Sequence[Span], packets: Sequence[bytes], warnings: Warnings) -> bytes | None:
    """Join the parts of the extended packet that a standard packet names by its GUID."""
    parts = [_part(data, span) for span in spans[:_MAX_PARTS] if span.end - span.start > _PART_HEADER]
    guids = list(dict.fromkeys(part.guid for part in parts))[:_MAX_PACKETS]
    known = next((guid for guid in guids if any(guid in packet for packet in packets)), None)
    named = sorted((part for part in parts if part.guid == known), key=lambda part: part.offset)
    if not named:
        warnings.add("extended XMP was not read: the standard packet does not name it (xmpNote:HasExtendedXMP)")
        return None
    full = named[0].full
    most = MAX_XMP_BYTES - sum(map(len, packets))
    if full > most:
        warnings.add(f"extended XMP has {full} bytes; {most} of them were read")
    joined = bytearray()
    for part in named:
        if part.offset > len(joined) or len(joined) >= most:
            break
        content = data[part.content.start : part.content.end]
        joined[part.offset : part.offset + len(content)] = content
    if len(joined) < min(full, most):
        warnings.add(f"extended XMP is incomplete: only {len(joined)} of {full} bytes are there without a gap")
    return bytes(joined[:most])


def _part(data: Buffer, span: Span) -> _Part:
    guid = bytes(data[span.start : span.start + _GUID_BYTES])
    full, offset = struct.unpack_from(">II", data, span.start + _GUID_BYTES)
    return _Part(guid, full, offset, Span(span.start + _PART_HEADER, span.end))


def _decode(packet: bytes) -> str:
    """Return the text of a packet. Where bytes are damaged its ASCII stays, which names and numbers consist of."""
    start, encoding = _encoding(packet[:_SEARCHED_BYTES])
    try:
        text = packet[start:].decode(encoding)
    except UnicodeDecodeError:
        # Not errors="replace": it takes long where nothing can be decoded.
        first, step = _ASCII_BYTES.get(encoding, (0, 1))
        text = packet[start + first :: step].decode("latin-1")
    return text.replace("\0", "").lstrip("\ufeff")


def _encoding(head: bytes) -> tuple[int, str]:
    """Return where the text begins, and its encoding: by a mark, or by the zeros around the first ``<``."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return 0, encoding
    at = head.find(b"<")
    behind = head[at + 1 : at + 4]
    if at < 0 or behind[:1] != b"\0":
        return 0, "utf-8"
    if behind == bytes(3):
        big = at % 4 == 3 and head[at - 3 : at] == bytes(3)
        return (at - 3, "utf-32-be") if big else (at, "utf-32-le")
    big = at % 2 == 1 and head[at - 1] == 0
    return (at - 1, "utf-16-be") if big else (at, "utf-16-le")
