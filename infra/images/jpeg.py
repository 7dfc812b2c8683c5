"""Reads the frame header of a JPEG, decides whether it is decoded, and counts the work of its scans."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Final

from infra.images.errors import CostlyImageError, DamagedImageError, EmptyImageError, UnsupportedImageError

MAGIC: Final = b"\xff\xd8\xff"
SOI, EOI, SOS, DQT = 0xD8, 0xD9, 0xDA, 0xDB
FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a frame header; the others of the range are tables."""
SCAN_MARK: Final = b"\xff\xda"
"""Begins a scan; never part of a JPEG's compressed data."""
MAX_SEGMENTS: Final = 2_048

MOST_SCANS_OF_LARGEST: Final = 25
"""The scans of one JPEG may together have this many times ``max_pixels``. An ordinary progressive one has 5 to 14."""
MOST_SCANS: Final = 500
"""So many scans a JPEG of any size may have; the marks of scans in the coded data and in previews count, too."""

# Markers without a segment: restart markers, and TEM.
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
# Markers with a segment.
_USUAL = frozenset(range(0x02, 0xFF)) - _STANDALONE - {SOI, EOI}
# The processes that all our decoders read: Huffman-coded, with up to 8 bits.
_SUPPORTED = {0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive"}
_OTHERS = {0xC3: "lossless", 0xC9: "arithmetic-coded", 0xCA: "arithmetic-coded progressive", 0xCB: "lossless"}
_PROGRESSIVE = 0xC2
_BLOCK_PIXELS = 64
# The most blocks of one unit of an interleaved scan (ITU T.81, B.2.3).
_MOST_UNIT_BLOCKS = 10
# Pairs FF 00, which are no markers, that are skipped between two segments: each costs a search.
_MOST_STRAY_PAIRS = 4


@dataclass(frozen=True, slots=True)
class JpegFrame:
    """Describes the picture of a JPEG by its frame header."""

    width: int
    height: int
    blocks: dict[int, int]
    """The number of 8×8 blocks of each component, by the component's number in the file."""
    sampling: dict[int, tuple[int, int]]
    """How many values of each component an area has, across and down; more of brightness than of colours."""
    progressive: bool

    @property
    def components(self) -> int:
        """1 (grey), 3 (colour) or 4 (four inks)."""
        return len(self.blocks)


def segments(data: bytes, most: int = MAX_SEGMENTS) -> Iterator[tuple[int, int, int]]:
    """Yield the marker of each segment, and start and end of its content, up to an SOI or EOI, which has none.

    Ends without one after ``most`` markers. Raises DamagedImageError where the file ends within a segment.
    """
    position, size = 2, len(data)
    for _ in range(most):
        # Mostly the next marker, and its content, follow at once; each frame has about ten.
        if position + 4 <= size and data[position] == 0xFF and data[position + 1] in _USUAL:
            end = position + 2 + (data[position + 2] << 8 | data[position + 3])
            if position + 4 <= end <= size:
                yield data[position + 1], position + 4, end
                position = end
                continue
        marker, position = _next_marker(data, position)
        if marker in _STANDALONE:
            continue
        if marker in (SOI, EOI):
            yield marker, position, position
            return
        start, position = _content(data, marker, position)
        yield marker, start, position


def _next_marker(data: bytes, position: int) -> tuple[int, int]:
    """Return the next marker at or after ``position``, and the position after it.

    Stray bytes before it, and fill bytes 0xFF, are skipped, as all decoders do. Raises DamagedImageError at the end.
    """
    for _ in range(_MOST_STRAY_PAIRS):
        position = data.find(b"\xff", position)
        if position < 0:
            raise DamagedImageError("the JPEG file ends inside its header; it was cut off")
        # There may be many fill bytes, so they are skipped 63 at a time.
        while data.startswith(b"\xff" * 64, position):
            position += 63
        while position < len(data) and data[position] == 0xFF:
            position += 1
        if position >= len(data):
            raise DamagedImageError("the JPEG file ends inside its header; it was cut off")
        if data[position]:
            return data[position], position + 1
    raise DamagedImageError("the JPEG file has picture data where its header must be; it is damaged")


def _content(data: bytes, marker: int, position: int) -> tuple[int, int]:
    """Return start and end of the content of a segment whose marker ends at ``position``."""
    (length,) = struct.unpack_from(">H", data, position) if position + 2 <= len(data) else (0,)
    if length < 2 or position + length > len(data):
        raise DamagedImageError(f"JPEG segment 0x{marker:02X} reaches behind the end of the file; it was cut off")
    return position + 2, position + length


def read_frame(data: bytes, marker: int, start: int, end: int) -> JpegFrame:
    """Return the frame whose header is at ``start`` to ``end``.

    Raises UnsupportedImageError if our decoders do not read this kind, EmptyImageError without a size, and
    DamagedImageError if the header contradicts itself.
    """
    if marker not in _SUPPORTED:
        kind = _OTHERS.get(marker, "hierarchical or differential")
        raise UnsupportedImageError(
            f"the JPEG is {kind} (SOF{marker - 0xC0}), which is not supported; save it as baseline or progressive "
            "JPEG, or as PNG"
        )
    if end - start < 6:
        raise DamagedImageError("the JPEG frame header is too short")
    precision, height, width, components = struct.unpack_from(">BHHB", data, start)
    if end - start < 6 + 3 * components:
        raise DamagedImageError("the JPEG frame header is shorter than its components need")
    if precision != 8:
        raise UnsupportedImageError(
            f"JPEG with {precision} bits per sample is not supported; save it with 8 bits, or as 16-bit PNG or TIFF"
        )
    if components not in (1, 3, 4):
        raise UnsupportedImageError(f"JPEG with {components} components is not supported; write 1, 3 or 4")
    if height == 0:
        raise EmptyImageError("the JPEG header leaves the height open (0 lines); write the height")
    if width == 0:
        raise EmptyImageError("the JPEG header has a width of 0")
    parts = [(data[at], *divmod(data[at + 1], 16)) for at in range(start + 6, start + 6 + 3 * components, 3)]
    return _frame(width, height, parts, progressive=marker == _PROGRESSIVE)


def _frame(width: int, height: int, parts: list[tuple[int, int, int]], *, progressive: bool) -> JpegFrame:
    if any(not (1 <= across <= 4 and 1 <= down <= 4) for _, across, down in parts):
        raise DamagedImageError("the JPEG frame header has a sampling factor outside 1 to 4")
    given = [part[0] for part in parts]
    numbers = _unique(given)
    sampling = {number: (across, down) for number, (_, across, down) in zip(numbers, parts, strict=True)}
    parts = [(number, across, down) for number, (_, across, down) in zip(numbers, parts, strict=True)]
    if len(parts) == 1:
        # The factors of a single component have no effect.
        parts = [(parts[0][0], 1, 1)]
    widest, tallest = max(part[1] for part in parts), max(part[2] for part in parts)
    if any(widest % across or tallest % down for _, across, down in parts):
        raise UnsupportedImageError(
            "the JPEG's colours are sampled at a fraction of its brightness that no common decoder reads; save it "
            "with 4:4:4, 4:2:2 or 4:2:0"
        )
    blocks = {
        number: -(-width * across // (8 * widest)) * -(-height * down // (8 * tallest))
        for number, across, down in parts
    }
    if numbers != given:
        # It is not certain which component a scan means, so each counts as the largest.
        blocks = dict.fromkeys(blocks, max(blocks.values()))
    return JpegFrame(width, height, blocks, sampling, progressive)


def check_scans(data: bytes, frame: JpegFrame, header: int, max_pixels: int) -> int:
    """Return the pixels that all scans have together; ``header`` is the start of the first scan's header.

    Where the first scan holds all components, a baseline picture has only this one, and nothing is searched. Otherwise
    every later byte pair of a scan's marker counts, also one in a preview: the result may be too large, never too
    small.

    Raises CostlyImageError above ``MOST_SCANS_OF_LARGEST`` times ``max_pixels`` or ``MOST_SCANS``, as soon as that is
    reached, and
    DamagedImageError when the first scan's header is wrong.
    """
    first = _scan_parts(data, header)
    if any(tables & 0xCC for tables in data[header + 2 : header + 2 + 2 * len(first) : 2]):
        raise DamagedImageError("the JPEG's first scan names Huffman tables above 3; the file is damaged")
    if not first or any(number not in frame.blocks for number in first):
        raise DamagedImageError("the JPEG's first scan names components that its frame header does not have")
    if len(first) > 1 and sum(prod(frame.sampling[number]) for number in first) > _MOST_UNIT_BLOCKS:
        raise UnsupportedImageError(
            "the JPEG's sampling factors are larger than the standard allows; save it with 4:4:4, 4:2:2 or 4:2:0"
        )
    total = sum(frame.blocks[number] for number in first)
    if not frame.progressive and len(first) == frame.components:
        return total * _BLOCK_PIXELS
    most = MOST_SCANS_OF_LARGEST * max_pixels // _BLOCK_PIXELS
    scans, position = 1, data.find(SCAN_MARK, header)
    while position >= 0:
        scans += 1
        total += sum(frame.blocks.get(number, 0) for number in _scan_parts(data, position + 4))
        if total > most or scans > MOST_SCANS:
            limit = f"together over {MOST_SCANS_OF_LARGEST} × {max_pixels} pixels (max_pixels)"
            raise CostlyImageError(
                f"the JPEG has more than {scans - 1} scans of {frame.width}×{frame.height} px"
                f"{f', {limit}' if total > most else ''}; an ordinary picture has at most 14. Save it again as a "
                "baseline JPEG"
            )
        position = data.find(SCAN_MARK, position + 2)
    return total * _BLOCK_PIXELS


def require_tables(*, found: bool) -> None:
    """Raise DamagedImageError unless a segment with quantization tables was ``found`` before the first scan."""
    if not found:
        raise DamagedImageError("the JPEG file has no quantization tables before its first scan; it is damaged")


def _scan_parts(data: bytes, at: int) -> list[int]:
    """Return the component numbers of the scan whose header's content is at ``at``."""
    count = data[at] if at < len(data) else 0
    return _unique(data[at + 1 : at + 1 + 2 * count : 2]) if count <= 4 else []


def _unique(numbers: Iterable[int]) -> list[int]:
    """Return component numbers; one that is repeated gets the next free number, as libjpeg does for broken files."""
    found: list[int] = []
    for number in numbers:
        found.append(max(found) + 1 if number in found else number)
    return found


def header_of(data: bytes, max_pixels: int) -> tuple[JpegFrame, int]:
    """Return the frame of a JPEG, and the pixels of all its scans together (see ``check_scans``).

    Where the picture has more than ``max_pixels``, its scans are not searched. Raises UnreadableImageError if our
    decoders do not read it.
    """
    frame: JpegFrame | None = None
    has_tables = False
    for marker, start, end in segments(data):
        if marker in FRAMES and frame is None:
            frame = read_frame(data, marker, start, end)
            if frame.width * frame.height > max_pixels:
                return frame, 0
        elif marker == DQT:
            has_tables = True
        elif marker == SOS and frame is not None:
            require_tables(found=has_tables)
            return frame, check_scans(data, frame, start, max_pixels)
    raise DamagedImageError("the JPEG file has no picture: no frame header with a scan after it")
