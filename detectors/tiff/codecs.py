"""Decompresses chunks (strips and tiles) of a TIFF into the bytes of their values.

Whatever the picture is, LZW, PackBits, LZMA, ZSTD and fax compress bytes only. So these chunks are given to libtiff
as the strips of a grey picture that is as wide as a chunk's row has bytes: no decoder ever sees the header of the file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from itertools import groupby

import numpy as np
import numpy.typing as npt
from PIL import TiffImagePlugin, WebPImagePlugin

from detectors.geometry.arrays import ImageArray
from detectors.tiff.jpeg_ends import require_all_data
from infra.errors import ImageCorruptError
from infra.images.errors import UnreadableImageError
from infra.tiff.coded_chunks import jpeg_frame
from infra.tiff.layout import (
    COEFFICIENTS,
    DEFLATE,
    EXTRA_SAMPLES,
    FAX,
    FILL_ORDER,
    GROUP3_OPTIONS,
    GROUP4_OPTIONS,
    JPEG,
    JPEG_TABLES,
    LZMA,
    LZW,
    MINISBLACK,
    NO_COMPRESSION,
    OLD_DEFLATE,
    PREDICTOR,
    RGB,
    SEPARATED,
    SUBSAMPLING,
    WEBP,
    YCBCR,
    ZSTD,
    TiffLayout,
)

ByteArray = npt.NDArray[np.uint8]

_MOST_TABLES_BYTES = 64 << 10
_REVERSED_BITS = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
_SHORT, _LONG, _UNDEFINED = 3, 4, 7
_UNASSOCIATED = 2
# Photometric interpretation of a JPEG chunk by its bands; libtiff changes no colours but those of YCbCr.
_JPEG_COLOURS = {1: MINISBLACK, 3: RGB, 4: SEPARATED}
# Photometric interpretation of chunks by their bands; the fourth is an extra sample.
_SIMPLE_COLOURS = {1: MINISBLACK, 3: RGB, 4: RGB}
_WITH_PREDICTOR = (LZW, DEFLATE, OLD_DEFLATE, LZMA, ZSTD)

_Entry = tuple[int, int, int, bytes]
"""Tag, type, count, values."""


def decompressed(layout: TiffLayout, chunks: Sequence[bytes], rows: Sequence[int]) -> ByteArray:
    """Return the bytes of ``chunks``, which have ``rows`` rows each, uint8 (sum of rows, bytes per row).

    Of JPEG, WebP and fax these are the finished values. Raises ImageCorruptError when a chunk is broken.
    """
    if layout.compression not in (JPEG, WEBP) and layout.directory.integer(FILL_ORDER, 1) == 2:
        chunks = [chunk.translate(_REVERSED_BITS) for chunk in chunks]
    row = layout.row_bytes()
    if layout.compression == NO_COMPRESSION:
        return np.concatenate([_bytes(chunk, each, row) for chunk, each in zip(chunks, rows, strict=True)])
    if adds_differences(layout):
        return _by_libtiff(layout, chunks, rows, layout.chunk_width, _difference_entries(layout))
    if layout.compression in (DEFLATE, OLD_DEFLATE):
        return np.concatenate([_inflated(chunk, each, row) for chunk, each in zip(chunks, rows, strict=True)])
    if layout.compression == WEBP:
        return np.concatenate([_webp(layout, chunk, each) for chunk, each in zip(chunks, rows, strict=True)])
    if layout.compression == JPEG:
        return _jpeg(layout, chunks, rows)
    if layout.compression in FAX:
        return _by_libtiff(layout, chunks, rows, layout.chunk_width, _fax_entries(layout))
    return _by_libtiff(layout, chunks, rows, row, [_shorts(258, 8), _shorts(262, MINISBLACK), _shorts(277, 1)])


def adds_differences(layout: TiffLayout) -> bool:
    """Return whether ``decompressed`` also undoes predictor 2; else it is left to the caller, which is slower."""
    return (
        layout.predictor == 2
        and layout.compression in _WITH_PREDICTOR
        and layout.bits == 8
        and layout.chunk_samples in _SIMPLE_COLOURS
        and layout.photometric != YCBCR
    )


def subsampled(layout: TiffLayout, chunk: bytes, rows: int) -> ByteArray:
    """Return a chunk of YCbCr whose colours are shared by neighbours as uint8 (rows, 3 · width): red, green, blue."""
    across, down = layout.subsampling
    units, lines = -(-layout.chunk_width // across), -(-rows // down)
    row = units * (across * down + 2)
    if layout.compression == NO_COMPRESSION:
        values = _bytes(chunk, lines, row)
    elif layout.compression in (DEFLATE, OLD_DEFLATE):
        values = _inflated(chunk, lines, row)
    else:
        grey = [_shorts(258, 8), _shorts(262, MINISBLACK), _shorts(277, 1)]
        values = _by_libtiff(layout, [chunk], [lines], row, grey)
    blocks = values.reshape(lines, units, across * down + 2)
    light = blocks[..., :-2].reshape(lines, units, down, across).transpose(0, 2, 1, 3)
    whole = [light.reshape(lines * down, units * across)]
    whole += [blocks[..., place].repeat(down, axis=0).repeat(across, axis=1) for place in (-2, -1)]
    colours = _colours_of(np.stack([plane[:rows, : layout.chunk_width] for plane in whole], axis=2), layout)
    return colours.reshape(rows, layout.chunk_width * 3)


def _colours_of(values: ByteArray, layout: TiffLayout) -> ByteArray:
    """Return YCbCr (h, w, 3) as RGB."""
    red, green, blue = (*layout.directory.real(COEFFICIENTS, 3), 0.299, 0.587, 0.114)[:3]
    if green <= 0:
        red, green, blue = 0.299, 0.587, 0.114
    light = values[..., 0].astype(np.float32)
    towards_blue = values[..., 1].astype(np.float32) - 128
    towards_red = values[..., 2].astype(np.float32) - 128
    reds = light + towards_red * (2 - 2 * red)
    blues = light + towards_blue * (2 - 2 * blue)
    greens = (light - blue * blues - red * reds) / green
    found: ByteArray = np.clip(np.rint(np.stack((reds, greens, blues), axis=2)), 0, 255).astype(np.uint8)
    return found


def _bytes(chunk: bytes, rows: int, row: int) -> ByteArray:
    if len(chunk) < rows * row:
        raise ImageCorruptError(f"a strip or tile has {len(chunk)} bytes but needs {rows * row}; the file was cut off")
    return np.frombuffer(chunk, np.uint8, rows * row).reshape(rows, row)


def _inflated(chunk: bytes, rows: int, row: int) -> ByteArray:
    try:
        found = zlib.decompressobj().decompress(chunk, rows * row)
    except zlib.error as error:
        raise ImageCorruptError(f"a strip or tile cannot be inflated ({error}); the file is damaged") from error
    return _bytes(found, rows, row)


def _webp(layout: TiffLayout, chunk: bytes, rows: int) -> ByteArray:
    """Return one WebP picture as bytes; its header has to say the size that the TIFF says."""
    wanted = (layout.chunk_width, rows)
    try:
        with WebPImagePlugin.WebPImageFile(BytesIO(chunk)) as image:
            if image.size != wanted:
                raise ImageCorruptError(f"a strip or tile has {image.size} pixels, the TIFF says {wanted}")
            values = np.asarray(image.convert("RGBA" if layout.samples == 4 else "RGB"))
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        raise ImageCorruptError(f"a strip or tile is no WebP picture ({error}); the file is damaged") from error
    return values.reshape(rows, -1)


def _jpeg(layout: TiffLayout, chunks: Sequence[bytes], rows: Sequence[int]) -> ByteArray:
    """Return the values of JPEG chunks; those whose colours are shared in the same way are decoded together."""
    tables = layout.directory.content(JPEG_TABLES, _MOST_TABLES_BYTES)
    if layout.photometric != YCBCR or layout.chunk_samples != 3:
        entries = _jpeg_entries(layout, layout.subsampling, tables)
        values = _by_libtiff(layout, chunks, rows, layout.chunk_width, entries)
        require_all_data(chunks, rows, values, layout.chunk_samples, tables)
        return values
    found = []
    for sampling, members in groupby(zip(chunks, rows, strict=True), lambda pair: _sampling(layout, pair[0])):
        some, heights = zip(*members, strict=True)
        entries = _jpeg_entries(layout, sampling, tables)
        found.append(_by_libtiff(layout, some, heights, layout.chunk_width, entries))
        require_all_data(some, heights, found[-1], layout.chunk_samples, tables)
    return np.concatenate(found)


def _sampling(layout: TiffLayout, chunk: bytes) -> tuple[int, int]:
    """Return how many columns and rows share a colour, by the JPEG itself: many TIFFs leave it out, or are wrong."""
    try:
        return next(iter(jpeg_frame(chunk).sampling.values()))
    except UnreadableImageError:
        # The decoder says what is wrong.
        return layout.subsampling


def _by_libtiff(
    layout: TiffLayout, chunks: Sequence[bytes], rows: Sequence[int], width: int, entries: Sequence[_Entry]
) -> ByteArray:
    """Return ``chunks`` as libtiff decodes the strips of a picture that is ``width`` wide, uint8 (rows, values)."""
    file = _file_of(layout.compression, chunks, rows, width, entries)
    try:
        image = TiffImagePlugin.TiffImageFile(BytesIO(file))
        image.load()
        values: ImageArray = np.asarray(image)
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        raise ImageCorruptError(f"a strip or tile cannot be decoded ({error}); the file is damaged") from error
    if image.mode == "1":
        return np.packbits(values, axis=1)
    return values.reshape(sum(rows), -1)


def _file_of(
    compression: int, chunks: Sequence[bytes], rows: Sequence[int], width: int, entries: Sequence[_Entry]
) -> bytes:
    """Return a TIFF whose strips are ``chunks``."""
    count = len(chunks)
    starts = np.cumsum([8, *map(len, chunks)])
    fields = sorted(
        [
            _longs(256, width),
            _longs(257, sum(rows)),
            _shorts(259, compression),
            _longs(273, *starts[:count].tolist()),
            _longs(278, rows[0]),
            _longs(279, *map(len, chunks)),
            *entries,
        ]
    )
    at = int(starts[count]) + (int(starts[count]) & 1)
    head = struct.pack("<2sHI", b"II", 42, at)
    table, beyond = [struct.pack("<H", len(fields))], bytearray()
    after = at + 2 + 12 * len(fields) + 4
    for tag, kind, total, values in fields:
        inline = values.ljust(4, b"\0")
        if len(values) > 4:
            inline = struct.pack("<I", after + len(beyond))
            beyond += values
        table.append(struct.pack("<HHI", tag, kind, total) + inline)
    padding = bytes(at - int(starts[count]))
    return b"".join([head, *chunks, padding, *table, bytes(4), beyond])


def _jpeg_entries(layout: TiffLayout, sampling: tuple[int, int], tables: bytes) -> list[_Entry]:
    bands = layout.chunk_samples
    colours = YCBCR if layout.photometric == YCBCR and bands == 3 else _JPEG_COLOURS[bands]
    entries = [_shorts(258, *[8] * bands), _shorts(262, colours), _shorts(277, bands)]
    if colours == YCBCR:
        entries.append(_shorts(SUBSAMPLING, *sampling))
    if tables:
        entries.append((JPEG_TABLES, _UNDEFINED, len(tables), tables))
    return entries


def _difference_entries(layout: TiffLayout) -> list[_Entry]:
    bands = layout.chunk_samples
    entries = [_shorts(258, *[8] * bands), _shorts(262, _SIMPLE_COLOURS[bands]), _shorts(277, bands)]
    if bands == 4:
        # Only a fourth band that is called transparency is handed over as it is.
        entries.append(_shorts(EXTRA_SAMPLES, _UNASSOCIATED))
    return [*entries, _shorts(PREDICTOR, 2)]


def _fax_entries(layout: TiffLayout) -> list[_Entry]:
    options = [(tag, layout.directory.integer(tag)) for tag in (GROUP3_OPTIONS, GROUP4_OPTIONS)]
    return [_shorts(258, 1), _shorts(262, MINISBLACK), *(_longs(tag, value) for tag, value in options if value)]


def _shorts(tag: int, *values: int) -> _Entry:
    return tag, _SHORT, len(values), struct.pack(f"<{len(values)}H", *values)


def _longs(tag: int, *values: int) -> _Entry:
    return tag, _LONG, len(values), struct.pack(f"<{len(values)}I", *values)
