"""Finds the EXIF blocks of a picture, and reads values from their directories."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from mmap import mmap

from ingest.images.formats.header import ImageError, Span
from ingest.images.formats.ifd import Block, IfdEntry
from ingest.images.metadata.warnings import Warnings

EXIF_IFD, GPS_IFD, XMP_PACKET = 0x8769, 0x8825, 0x2BC
TIME_ORIGINAL, LATITUDE = 0x9003, 2

# The tags that Standgale reads, besides those of the GPS directory.
_READ = frozenset({EXIF_IFD, GPS_IFD, XMP_PACKET, TIME_ORIGINAL, *range(0x9004, 0x9013), *range(0x9290, 0x9293)}) | {
    0x920A,
    0xA002,
    0xA003,
    0xA20E,
    0xA210,
    0xA404,
    0xA405,
}
_LAST_GPS_TAG = 0x1F

MAX_SEGMENTS = 8
_MAX_BLOCKS = 4
# A block begins with its byte order. Before it some programs repeat the segment's header, or write a few bytes more.
_HEADERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SEARCHED_BYTES = 64

Buffer = bytes | mmap


@dataclass(slots=True)
class Directory:
    """Reads values of one directory; empty where there is none."""

    block: Block | None = None
    entries: Mapping[int, IfdEntry] = field(default_factory=dict)

    def numbers(self, tag: int, count: int) -> list[float]:
        """Return at most ``count`` finite numbers of ``tag``; fewer where it has fewer, or one is not a number."""
        entry = self.entries.get(tag)
        if self.block is None or entry is None:
            return []
        return [value for value in self.block.numbers(entry, count) if math.isfinite(value)]

    def number(self, tag: int) -> float | None:
        """Return the first number of ``tag``."""
        found = self.numbers(tag, 1)
        return found[0] if found else None

    def total(self, tag: int) -> int:
        """Return how many values ``tag`` says it has; 0 where it is missing."""
        entry = self.entries.get(tag)
        return 0 if entry is None else entry.total

    def text(self, tag: int) -> str:
        """Return the text of ``tag``; empty where it is missing or no text."""
        entry = self.entries.get(tag)
        return "" if self.block is None or entry is None else self.block.text(entry)

    def raw(self, tag: int, most: int) -> bytes:
        """Return at most ``most`` bytes of ``tag``."""
        entry = self.entries.get(tag)
        return b"" if self.block is None or entry is None else self.block.raw(entry, most)


@dataclass(frozen=True, slots=True)
class ExifTags:
    """Holds the directories of a picture; ``exif`` contains the main directory's entries too."""

    exif: Directory
    gps: Directory
    packets: tuple[tuple[Directory, int], ...]
    """Where XMP packets are inside of EXIF: directory and tag."""


def read_tags(data: Buffer, spans: Sequence[Span], warnings: Warnings) -> ExifTags:
    """Return the directories of the EXIF at ``spans``.

    Of several blocks the first one that has a directory gives it. A block longer than a JPEG segment continues in the
    segments after it.
    """
    if len(spans) > MAX_SEGMENTS:
        warnings.add(f"the picture has {len(spans)} EXIF segments; only the first {MAX_SEGMENTS} were read")
    exif, gps = Directory(), Directory()
    packets: list[tuple[Directory, int]] = []
    for block in _blocks(data, spans[:MAX_SEGMENTS], warnings):
        main = _directory(block, block.first, "EXIF", warnings)
        if main is None:
            continue
        child = _child(main, EXIF_IFD, "EXIF", warnings)
        found = Directory(block, {**main.entries, **child.entries})
        packets.extend((each, XMP_PACKET) for each in (main, child) if XMP_PACKET in each.entries)
        position = _child(main, GPS_IFD, "GPS", warnings)
        exif = _first(exif, found, TIME_ORIGINAL, warnings)
        gps = _first(gps, position, LATITUDE, warnings)
    return ExifTags(exif, gps, tuple(packets))


def _first(known: Directory, found: Directory, tag: int, warnings: Warnings) -> Directory:
    """Return ``known`` unless only ``found`` has ``tag``; warn where both have it with different values."""
    if tag in known.entries and tag in found.entries:
        if (known.text(tag), known.numbers(tag, 3)) != (found.text(tag), found.numbers(tag, 3)):
            fields = ("captured_at",) if tag == TIME_ORIGINAL else ("latitude", "longitude")
            warnings.add("the picture has several EXIF blocks that contradict each other; the first was used", *fields)
        return known
    return found if tag in found.entries or not known.entries else known


def _blocks(data: Buffer, spans: Sequence[Span], warnings: Warnings) -> list[Block]:
    blocks: list[Block] = []
    begun: list[Span] = []
    for span in spans:
        head = data[span.start : min(span.end, span.start + _SEARCHED_BYTES)]
        found = [at for at in map(head.find, _HEADERS) if at >= 0]
        if found:
            _open(data, begun, blocks, warnings)
            begun = [Span(span.start + min(found), span.end)]
        elif begun:
            begun.append(span)
        else:
            warnings.add("an EXIF block could not be read: it does not begin with a TIFF header")
    _open(data, begun, blocks, warnings)
    return blocks[:_MAX_BLOCKS]


def _open(data: Buffer, spans: list[Span], blocks: list[Block], warnings: Warnings) -> None:
    if not spans:
        return
    try:
        if len(spans) == 1:
            blocks.append(Block(data, spans[0]))
        else:
            joined = b"".join(data[span.start : span.end] for span in spans)
            blocks.append(Block(joined, Span(0, len(joined))))
    except ImageError as error:
        warnings.add(f"an EXIF block could not be read: {error}")


def _directory(block: Block, offset: int, name: str, warnings: Warnings) -> Directory | None:
    try:
        entries = block.directory(offset)
    except ImageError as error:
        warnings.add(f"the {name} directory could not be read: {error}")
        return None
    lost = sorted(tag for tag in block.outside if tag in _READ or tag <= _LAST_GPS_TAG)
    if lost:
        tags = ", ".join(f"0x{tag:04X}" for tag in lost[:8])
        warnings.add(f"EXIF values that point outside of their block were left out: tag {tags}")
    return Directory(block, entries)


def _child(main: Directory, tag: int, name: str, warnings: Warnings) -> Directory:
    offset = main.number(tag)
    if main.block is None or not offset or offset < 0:
        return Directory()
    return _directory(main.block, int(offset), name, warnings) or Directory()
