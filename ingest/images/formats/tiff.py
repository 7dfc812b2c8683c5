"""Scans TIFF files: reads the first directory, and checks that all strips or tiles are inside the file."""

from __future__ import annotations

import numpy as np

from ingest.images.formats.header import Admit, CorruptedFileError, Header, InvalidFormatError, Metadata, Span
from ingest.images.formats.ifd import Block, IfdEntry

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _RAW = 256, 257, 258, 259, 50706
_SAMPLES = 277
_STRIPS, _TILES = (273, 279), (324, 325)
_COMPRESSIONS = {1: "none", 5: "LZW", 7: "JPEG", 8: "deflate", 32946: "deflate", 32773: "PackBits"}
_MAX_PIECES = 1_000_000


def scan(data: bytes, admit: Admit) -> Header:
    """Return the header of a TIFF file (its first page). Raises ImageError if it is unsupported or cut off."""
    block = Block(data, Span(0, len(data)))
    entries = block.directory(block.first, strict=True)
    width, height = _integer(block, entries, _WIDTH), _integer(block, entries, _HEIGHT)
    if width is None or height is None:
        raise CorruptedFileError("the TIFF directory has no picture size")
    _check_variant(block, entries)
    admit(width, height)
    _check_pieces(data, block, entries, width * height)
    return Header(width, height, Metadata(exif=[Span(0, len(data))]))


def _integer(block: Block, entries: dict[int, IfdEntry], tag: int) -> int | None:
    entry = entries.get(tag)
    values = block.integers(entry._replace(total=1)) if entry else None
    return int(values[0]) if values is not None and values.size else None


def _check_variant(block: Block, entries: dict[int, IfdEntry]) -> None:
    if _RAW in entries:
        raise InvalidFormatError("this is a camera raw file (DNG); send the developed picture as JPEG, PNG or TIFF")
    compression = _integer(block, entries, _COMPRESSION) or 1
    if compression not in _COMPRESSIONS:
        known = ", ".join(sorted(set(_COMPRESSIONS.values())))
        raise InvalidFormatError(f"TIFF compression {compression} is not supported; write one of {known}")
    bits = _integer(block, entries, _BITS) or 1
    if bits not in (8, 16):
        raise InvalidFormatError(f"TIFF with {bits} bits per sample is not supported; write 8 or 16")


def _check_pieces(data: bytes, block: Block, entries: dict[int, IfdEntry], pixels: int) -> None:
    """Raise CorruptedFileError unless there are strips or tiles, all inside the file, enough if uncompressed."""
    tags = _TILES if _TILES[0] in entries else _STRIPS
    places = [entries.get(tag) for tag in tags]
    if places[0] is None or places[1] is None or places[0].total != places[1].total:
        raise CorruptedFileError("the TIFF directory does not have the positions of its image data; it was cut off")
    if places[0].total > _MAX_PIECES:
        raise CorruptedFileError(f"the TIFF directory claims {places[0].total} strips or tiles")
    starts, sizes = (block.integers(place) for place in places if place)
    if starts.size == 0 or sizes.size != starts.size:
        raise CorruptedFileError("the TIFF directory does not have the positions of its image data; it is damaged")
    if np.any(starts + sizes > len(data)):
        raise CorruptedFileError("the TIFF picture data reaches behind the end of the file; it was cut off")
    if (_integer(block, entries, _COMPRESSION) or 1) == 1:
        needed = pixels * (_integer(block, entries, _SAMPLES) or 1) * (_integer(block, entries, _BITS) or 8) // 8
        if int(sizes.sum()) < needed:
            raise CorruptedFileError(
                f"the TIFF picture has {int(sizes.sum())} bytes but needs {needed}; it was cut off"
            )
