"""Checks the pictures inside a TIFF's strips and tiles of JPEG and WebP by their headers, without decoding them."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from typing import Final

from infra.images import webp
from infra.images.errors import CostlyImageError, DamagedImageError, UnsupportedImageError
from infra.images.jpeg import FRAMES, SCAN_MARK, SOS, JpegFrame, read_frame, segments
from infra.tiff.directory import Buffer
from infra.tiff.layout import JPEG, WEBP, YCBCR, TiffLayout

# So many scans the JPEG of a strip or tile may have. Usual ones have 1, progressive ones about 10.
_MOST_SCANS: Final = 16
_SOI: Final = b"\xff\xd8"
_EOI: Final = b"\xff\xd9"
_MOST_HEADERS: Final = 1_024
_MOST_SEGMENTS: Final = 64
# As many as the chunks that a file may have, with a scan each; the bytes of a mark are also in other parts of a file.
_MOST_MARKS: Final = 1_000_000
_SAVE_AGAIN: Final = "Save the TIFF again with baseline JPEG or deflate"
_AGAIN: Final = "write the TIFF again, for example with `gdal_translate -co COMPRESS=DEFLATE`"


def check_coded_chunks(layout: TiffLayout) -> None:
    """Raise UnreadableImageError when JPEG or WebP in strips or tiles cannot be decoded, as their headers show.

    The scans of all strips and tiles are counted, and all must have an end; of many, some that are spread over the
    file have their header read.
    Does nothing for other compressions. Raises ImageCorruptError when strips or tiles are outside of the file.
    """
    if layout.compression not in (JPEG, WEBP):
        return
    offsets, sizes = layout.places()
    if layout.compression == JPEG:
        _check_scans(layout.directory.data, offsets, sizes)
    check = _check_jpeg if layout.compression == JPEG else _check_webp
    for chunk in _spread(sizes):
        check(layout, chunk, bytes(layout.directory.data[offsets[chunk] : offsets[chunk] + sizes[chunk]]))
    if layout.compression == JPEG:
        _check_ends(layout.directory.data, offsets, sizes)


def jpeg_frame(chunk: bytes) -> JpegFrame:
    """Return the frame header of the JPEG ``chunk``. Raises UnreadableImageError if it has none that is decoded."""
    if not chunk.startswith(_SOI):
        raise DamagedImageError("a strip or tile of the TIFF begins no JPEG; the file is damaged")
    for marker, start, end in segments(chunk, _MOST_SEGMENTS):
        if marker == SOS:
            break
        if marker in FRAMES:
            return read_frame(chunk, marker, start, end)
    raise DamagedImageError("a strip or tile of the TIFF is a JPEG without a frame header; the file is damaged")


def _spread(sizes: array[int]) -> list[int]:
    """Return the numbers of at most ``_MOST_HEADERS`` chunks that have content, the first and the last among them."""
    present = [chunk for chunk, size in enumerate(sizes) if size]
    if len(present) <= _MOST_HEADERS:
        return present
    return [present[place * (len(present) - 1) // (_MOST_HEADERS - 1)] for place in range(_MOST_HEADERS)]


def _check_scans(data: Buffer, offsets: array[int], sizes: array[int]) -> None:
    """Raise CostlyImageError for a JPEG whose many scans each cost as much as its whole picture."""
    marks = array("Q")
    for mark in re.finditer(SCAN_MARK, data):
        marks.append(mark.start())
        if len(marks) > _MOST_MARKS:
            raise CostlyImageError(f"the JPEGs in the TIFF have more than {_MOST_MARKS} scans. {_SAVE_AGAIN}")
    for at, size in zip(offsets, sizes, strict=True):
        scans = bisect_left(marks, at + size - 1) - bisect_left(marks, at) if size else 0
        if scans > _MOST_SCANS:
            raise CostlyImageError(
                f"a strip or tile of the TIFF is a JPEG of {scans} scans; at most {_MOST_SCANS} are decoded. "
                f"{_SAVE_AGAIN}"
            )


def _check_ends(data: Buffer, offsets: array[int], sizes: array[int]) -> None:
    """Raise DamagedImageError for a JPEG without an end marker; some writers fill up to a round size after it."""
    for chunk, (at, size) in enumerate(zip(offsets, sizes, strict=True)):
        end = at + size
        if size and data[end - len(_EOI) : end] != _EOI and _EOI not in bytes(data[at:end]):
            raise DamagedImageError(
                f"strip or tile {chunk} of the TIFF is a JPEG without an end marker; it was cut off or is damaged"
            )


def _check_jpeg(layout: TiffLayout, chunk: int, content: bytes) -> None:
    frame = jpeg_frame(content)
    if frame.components != layout.chunk_samples:
        raise DamagedImageError(
            f"a strip or tile of the TIFF is a JPEG of {frame.components} components, its header says "
            f"{layout.chunk_samples}; {_AGAIN}"
        )
    if frame.width > layout.chunk_width:
        raise DamagedImageError(
            f"strip or tile {chunk} of the TIFF is a JPEG {frame.width} pixels wide, its header says "
            f"{layout.chunk_width}; {_AGAIN}"
        )
    shares_colours = layout.photometric == YCBCR and layout.chunk_samples == 3
    if any(factors != (1, 1) for factors in list(frame.sampling.values())[1 if shares_colours else 0 :]):
        raise UnsupportedImageError(
            "the JPEG in the TIFF's strips or tiles has fewer values for some bands than for others, which only YCbCr "
            f"may have (photometric interpretation 6, here {layout.photometric}); {_AGAIN}"
        )


def _check_webp(layout: TiffLayout, chunk: int, content: bytes) -> None:
    if not webp.matches(content):
        raise DamagedImageError("a strip or tile of the TIFF is no WebP picture; the file is damaged")
    size, wanted = webp.size_of(content), (layout.chunk_width, layout.rows_of(chunk))
    if size != wanted:
        raise DamagedImageError(
            f"a strip or tile of the TIFF is a WebP picture of {size[0]}×{size[1]} pixels, its header says "
            f"{wanted[0]}×{wanted[1]}; {_AGAIN}"
        )
