"""Bounds what a PNG decoder unpacks: no texts, profiles or frames of an animation, and no more data than pixels."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

from infra.images.errors import CostlyImageError
from infra.images.png import DEFLATE_MOST, FIRST_CHUNK, MAGIC, Chunk, PngHeader, read_chunks

_NEEDED: Final = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
# So much is unpacked in less than half a second, whether it is needed or not.
_HARMLESS_BYTES: Final = 256 << 20
# Rows of small widths and of interlaced pictures have more bytes beside their pixels than others.
_SPARE_BYTES: Final = 1 << 20
_PART_BYTES: Final = 1 << 20


def bounded_png(data: bytes, header: PngHeader) -> bytes:
    """Return the PNG ``data`` with the chunks of its picture only; the same object when it has no others.

    Raises DamagedImageError when a chunk is wrong, and CostlyImageError if the data of the picture unpack to far more
    bytes than its pixels have.
    """
    chunks = list(read_chunks(data))
    _require_no_excess(data, header, chunks)
    return _picture_chunks(data, chunks)


def _picture_chunks(data: bytes, chunks: Iterable[Chunk]) -> bytes:
    """Return ``data`` with those of its ``chunks`` that the picture needs.

    A few bytes of compressed text unpack to many megabytes, and a chunk may claim more bytes than the file has, for
    which decoders take memory before they look.
    """
    kept: list[bytes | memoryview] = [MAGIC]
    view = memoryview(data)
    start, position, whole = FIRST_CHUNK, FIRST_CHUNK, True
    for chunk in chunks:
        after = chunk.end + 4
        if chunk.kind not in _NEEDED:
            whole = False
            kept.append(view[start:position])
            start = after
        position = after
    kept.append(view[start:position])
    return data if whole else b"".join(kept)


def _require_no_excess(data: bytes, header: PngHeader, chunks: Iterable[Chunk]) -> None:
    """Raise CostlyImageError if the data of the PNG ``data`` unpack to far more bytes than its pixels have.

    Decoders unpack all of them, whatever the size of the picture: 10 MB keep one busy for 20 seconds. Only where that
    is possible, the data are unpacked here first, up to the limit.
    """
    most = 2 * header.raw_bytes + _SPARE_BYTES
    spans = [(chunk.start, chunk.end) for chunk in chunks if chunk.kind == b"IDAT"]
    if sum(end - start for start, end in spans) * DEFLATE_MOST <= max(most, _HARMLESS_BYTES):
        return
    view, unpacking = memoryview(data), zlib.decompressobj()
    try:
        for start, end in spans:
            left: bytes | memoryview = view[start:end]
            while left and not unpacking.eof:
                most -= len(unpacking.decompress(left, _PART_BYTES))
                if most < 0:
                    raise CostlyImageError(
                        f"the PNG file has far more picture data than its {header.width}×{header.height} pixels need; "
                        "save it again"
                    )
                left = unpacking.unconsumed_tail
    except zlib.error:
        # The decoder says what is wrong, and stops there, too.
        return
