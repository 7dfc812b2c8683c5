"""Reads chosen bands of a TIFF as an array of numbers, some strips or tiles at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.tiff.codecs import ByteArray, adds_differences, decompressed, subsampled
from infra.errors import ImageCorruptError
from infra.tiff.layout import (
    FAX,
    FLOAT,
    JPEG,
    SIGNED,
    WEBP,
    YCBCR,
    TiffLayout,
    chunk_positions,
)

Values = npt.NDArray[Any]

# Chunks are decompressed together up to about this size.
_TOGETHER_BYTES = 8 << 20
_FINISHED = (JPEG, WEBP, *FAX)


def number_type(layout: TiffLayout) -> np.dtype[Any]:
    """Return the type of the values in memory."""
    kind = {SIGNED: "i", FLOAT: "f"}.get(layout.sample_format, "u")
    size = next(each for each in (1, 2, 4, 8) if layout.bits <= 8 * each)
    return np.dtype(f"{kind}{size}")


def band_pieces(layout: TiffLayout, bands: Sequence[int]) -> Iterator[tuple[int, int, Values, slice]]:
    """Yield the values of ``bands`` (numbers from 1) piece by piece: top, left, values (bands, h, w), which bands.

    Pieces do not overlap, and all of them together are the picture. Strips and tiles that the file leaves out are not
    yielded. Raises ImageCorruptError when the file is broken.
    """
    offsets, sizes = layout.places()
    data = layout.directory.data
    planes = (
        [(band - 1, slice(at, at + 1)) for at, band in enumerate(bands)] if layout.is_planar else [(0, slice(None))]
    )
    chosen = slice(None) if layout.is_planar else _places_of(bands)
    together = max(1, _TOGETHER_BYTES // max(1, layout.row_bytes() * layout.chunk_height))
    for plane, into in planes:
        present = ((chunk, top, left) for chunk, top, left in chunk_positions(layout, plane) if sizes[chunk])
        for _, members in groupby(enumerate(present), lambda numbered: numbered[0] // together):
            places = [place for _, place in members]
            rows = [layout.rows_of(chunk) for chunk, _, _ in places]
            packed = [bytes(data[offsets[chunk] : offsets[chunk] + sizes[chunk]]) for chunk, _, _ in places]
            values = _numbers(layout, packed, rows)
            if len(values) != sum(rows):
                raise ImageCorruptError(f"strips or tiles of {sum(rows)} rows were decoded into {len(values)}")
            first = 0
            if _are_joined(layout, places):
                places, rows = places[:1], [sum(rows)]
            for (_, top, left), height in zip(places, rows, strict=True):
                piece = values[first : first + min(height, layout.height - top), : layout.width - left]
                first += height
                yield top, left, piece[..., chosen].transpose(2, 0, 1), into


def _are_joined(layout: TiffLayout, places: Sequence[tuple[int, int, int]]) -> bool:
    """Return whether the chunks at ``places`` follow each other from top to bottom, without a gap."""
    return layout.across == 1 and places[-1][1] - places[0][1] == (len(places) - 1) * layout.chunk_height


def _places_of(bands: Sequence[int]) -> slice | list[int]:
    """Return where ``bands`` (numbers from 1) are among the values of a pixel."""
    first, count = bands[0] - 1, len(bands)
    following = list(bands) == list(range(first + 1, first + 1 + count))
    return slice(first, first + count) if following else [band - 1 for band in bands]


def read_bands(layout: TiffLayout, bands: Sequence[int], blank: float | None) -> Values:
    """Return ``bands`` (numbers from 1) of the whole picture, (bands, h, w); what the file leaves out is ``blank``."""
    found = np.zeros((len(bands), layout.height, layout.width), number_type(layout))
    if blank is not None and np.isfinite(blank) and np.can_cast(np.min_scalar_type(blank), found.dtype, "same_kind"):
        found[...] = blank
    for top, left, values, into in band_pieces(layout, bands):
        found[into, top : top + values.shape[1], left : left + values.shape[2]] = values
    return found


def _numbers(layout: TiffLayout, packed: list[bytes], rows: list[int]) -> Values:
    """Return chunks below each other, (sum of rows, chunk width, bands of a chunk)."""
    width, bands = layout.chunk_width, layout.chunk_samples
    if layout.photometric == YCBCR and layout.compression not in (JPEG, WEBP):
        parts = [subsampled(layout, chunk, each) for chunk, each in zip(packed, rows, strict=True)]
        return np.concatenate(parts).reshape(-1, width, bands)
    raw = decompressed(layout, packed, rows)
    if layout.predictor == 3 and layout.compression not in _FINISHED:
        return _real_differences(layout, raw).reshape(-1, width, bands)
    if layout.bits not in (8, 16, 32, 64):
        return _unpacked(raw, layout.bits, width * bands).reshape(-1, width, bands)
    kind = number_type(layout)
    stored = kind if layout.compression in _FINISHED else kind.newbyteorder(layout.directory.order)
    values: Values = raw.view(stored).reshape(-1, width, bands).astype(kind, copy=False)
    if layout.predictor == 2 and layout.compression not in _FINISHED and not adds_differences(layout):
        # A sum wraps as the difference did; real numbers are added as whole ones.
        whole = values.view(np.dtype(f"u{kind.itemsize}"))
        values = np.add.accumulate(whole, axis=1, dtype=whole.dtype).view(kind)
    return values


def _unpacked(raw: ByteArray, bits: int, values: int) -> Values:
    """Return numbers of ``bits`` bits, the highest bit first, (rows, values); each row begins with a byte."""
    if bits in (1, 2, 4):
        shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
        return ((raw[..., None] >> shifts) & np.uint8(2**bits - 1)).reshape(len(raw), -1)[:, :values]
    each = np.unpackbits(raw, axis=1)[:, : values * bits].reshape(len(raw), values, bits)
    found = np.zeros(each.shape[:2], np.uint8 if bits <= 8 else np.uint16)
    for place in range(bits):
        found = (found << 1) | each[..., place]
    return found


def _real_differences(layout: TiffLayout, raw: ByteArray) -> Values:
    """Return real numbers whose bytes were sorted by weight and stored as differences, (rows, values)."""
    size, bands = layout.bits // 8, layout.chunk_samples
    whole = np.add.accumulate(raw.reshape(len(raw), -1, bands), axis=1, dtype=np.uint8)
    # The bytes of highest weight come first, whatever the order of the file.
    ordered = np.ascontiguousarray(whole.reshape(len(raw), size, -1).transpose(0, 2, 1))
    found: Values = ordered.view(np.dtype(f">f{size}"))[..., 0].astype(np.dtype(f"f{size}"))
    return found
