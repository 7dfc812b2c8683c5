"""Makes small JPEG files with EXIF and XMP for tests, also with what cameras and programs write wrongly."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from fractions import Fraction

from PIL import Image

from ingest.images.check import ImageLimits, inspect_image
from ingest.images.exif import Capture, read_capture

Value = str | bytes | int | float | tuple[float, ...]
"""ASCII, UNDEFINED, LONG, and rationals (signed where one is negative)."""

LIMITS = ImageLimits(max_image_bytes=10_000_000, min_side_px=1, max_side_px=16_384, max_pixels=120_000_000)
SECONDS = {0x9003: "2026:01:31 12:00:00"}
"""A capture time without a zone."""

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_PACKET = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:{prefix}="{uri}" {attributes}>{elements}</rdf:Description></rdf:RDF></x:xmpmeta>'
)
DJI = "http://www.dji.com/drone-dji/1.0/"


def packet(attributes: str = "", elements: str = "", *, prefix: str = "drone-dji", uri: str = DJI) -> str:
    """The text of an XMP packet with one namespace."""
    return _PACKET.format(attributes=attributes, elements=elements, prefix=prefix, uri=uri)


def exif_block(
    exif: Mapping[int, Value] | None = None,
    gps: Mapping[int, Value] | None = None,
    main: Mapping[int, Value] | None = None,
) -> bytes:
    """A little-endian TIFF block with the directories: main, EXIF and GPS."""
    pointers = {_EXIF_IFD: 0, _GPS_IFD: 0}
    first = _directory({**(main or {}), **pointers}, 8)
    second = _directory(exif or {}, 8 + len(first))
    places = {_EXIF_IFD: 8 + len(first), _GPS_IFD: 8 + len(first) + len(second)}
    first = _directory({**(main or {}), **places}, 8)
    return b"II*\0\x08\0\0\0" + first + second + _directory(gps or {}, places[_GPS_IFD])


def _directory(entries: Mapping[int, Value], at: int) -> bytes:
    rows, behind = b"", b""
    start = at + 2 + 12 * len(entries) + 4
    for tag, value in sorted(entries.items()):
        kind, count, data = _encoded(value)
        place = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack("<I", start + len(behind))
        behind += data if len(data) > 4 else b""
        rows += struct.pack("<HHI", tag, kind, count) + place
    return struct.pack("<H", len(entries)) + rows + bytes(4) + behind


def _encoded(value: Value) -> tuple[int, int, bytes]:
    if isinstance(value, str):
        text = value.encode("latin-1") + b"\0"
        return 2, len(text), text
    if isinstance(value, bytes):
        return 7, len(value), value
    if isinstance(value, int):
        return 4, 1, struct.pack("<I", value)
    numbers = value if isinstance(value, tuple) else (value,)
    code = "i" if any(number < 0 for number in numbers) else "I"
    ratios = [Fraction(number).limit_denominator(100_000) for number in numbers]
    data = b"".join(struct.pack(f"<2{code}", ratio.numerator, ratio.denominator) for ratio in ratios)
    return (10 if code == "i" else 5), len(numbers), data


def segment(data: bytes) -> bytes:
    """A JPEG segment APP1."""
    return b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data


def exif_segment(block: bytes) -> bytes:
    """The segment of an EXIF block."""
    return segment(_EXIF + block)


def xmp_segment(text: str | bytes) -> bytes:
    """The segment of an XMP packet."""
    return segment(_XMP + (text.encode() if isinstance(text, str) else text))


def extended_segments(guid: bytes, text: bytes, part: int = 60_000) -> list[bytes]:
    """The segments of an extended packet, cut into parts."""
    head = b"http://ns.adobe.com/xmp/extension/\0" + guid + struct.pack(">I", len(text))
    return [segment(head + struct.pack(">I", at) + text[at : at + part]) for at in range(0, len(text), part)]


def jpeg(*segments: bytes, size: tuple[int, int] = (40, 30)) -> bytes:
    """A grey JPEG with the segments before all others."""
    out = io.BytesIO()
    Image.new("RGB", size, (90, 90, 90)).save(out, "JPEG")
    data = out.getvalue()
    return data[:2] + b"".join(segments) + data[2:]


def photograph(
    exif: Mapping[int, Value] | None = None,
    gps: Mapping[int, Value] | None = None,
    xmp: str | bytes | None = None,
    size: tuple[int, int] = (40, 30),
) -> bytes:
    """A JPEG with one EXIF block and at most one XMP packet."""
    segments = [exif_segment(exif_block(exif, gps))] if exif or gps else []
    return jpeg(*segments, *([] if xmp is None else [xmp_segment(xmp)]), size=size)


def tiff_of_16_bits(exif: Mapping[int, Value], xmp: str, size: tuple[int, int] = (40, 30)) -> bytes:
    """A grey TIFF, uncompressed, with EXIF and XMP in its directory."""
    width, height = size
    pixels = bytes(2 * width * height)
    tags: dict[int, Value] = {256: width, 257: height, 258: 16, 259: 1, 262: 1, 277: 1, 278: height, 279: len(pixels)}
    tags[0x2BC] = xmp.encode()
    start = len(exif_block(exif, main={**tags, 273: 0}))
    return exif_block(exif, main={**tags, 273: start}) + pixels


def capture(data: bytes) -> Capture:
    """What is read from the picture."""
    return read_capture(data, inspect_image(data, LIMITS))


def texts(found: Capture) -> str:
    """All warnings as one text."""
    return "\n".join(warning.text for warning in found.warnings)
