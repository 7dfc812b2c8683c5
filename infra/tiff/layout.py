"""Describes how a TIFF keeps its pixels: sizes, number format, colours, compression, strips or tiles."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from infra.errors import ImageCorruptError
from infra.tiff.directory import Buffer, Directory

# Photometric interpretations.
MINISWHITE, MINISBLACK, RGB, PALETTE, SEPARATED, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
# Compressions that the code names.
NO_COMPRESSION, CCITT_RLE, CCITT_G3, CCITT_G4, LZW, OLD_JPEG, JPEG, DEFLATE = 1, 2, 3, 4, 5, 6, 7, 8
PACKBITS, OLD_DEFLATE, LERC, LZMA, ZSTD, WEBP = 32773, 32946, 34887, 34925, 50000, 50001
FAX = (CCITT_RLE, CCITT_G3, CCITT_G4)
# Number formats.
UNSIGNED, SIGNED, FLOAT, UNDEFINED = 1, 2, 3, 4

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_SIZES, PLANAR = 273, 277, 278, 279, 284
GROUP3_OPTIONS, GROUP4_OPTIONS, PREDICTOR, COLOUR_MAP = 292, 293, 317, 320
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES, INK_SET, EXTRA_SAMPLES = 322, 323, 324, 325, 332, 338
SAMPLE_FORMAT, JPEG_TABLES, COEFFICIENTS, SUBSAMPLING, REFERENCE_BLACK_WHITE = 339, 347, 529, 530, 532
XMP, GDAL_METADATA, GDAL_NODATA, DNG_VERSION = 700, 42112, 42113, 50706

# The bands that one colour takes, by photometric interpretation; one where it is not named.
_COLOURS = {RGB: 3, SEPARATED: 4, YCBCR: 3, CIELAB: 3, ICCLAB: 3}
MAX_SAMPLES = 1_000
MAX_CHUNKS = 1_000_000
# Each byte of a file may be read so often: writers store equal tiles once.
_MOST_READS = 8
_ASSOCIATED, _UNASSOCIATED = 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class TiffLayout:
    """Describes the first page of a TIFF. A chunk is a strip or a tile: what is decoded at once."""

    directory: Directory
    width: int
    height: int
    samples: int
    """values per pixel: bands, the number of colours and further ones"""
    bits: int
    """bits per value; 0 where bands differ"""
    sample_format: int
    photometric: int
    compression: int
    predictor: int
    is_planar: bool
    """whether each band has its own chunks"""
    is_tiled: bool
    chunk_width: int
    chunk_height: int
    extra: tuple[int, ...]
    """what further bands are, by tag ExtraSamples; may be shorter than their number"""
    subsampling: tuple[int, int]
    """of YCbCr: columns and rows that share a colour"""

    @property
    def colours(self) -> int:
        """The number of bands that make the colour, by the photometric interpretation."""
        return _COLOURS.get(self.photometric, 1)

    @property
    def alpha(self) -> int | None:
        """The number (from 1) of the band with the transparency; None without."""
        for number, kind in enumerate(self.extra, self.samples - len(self.extra) + 1):
            if kind in (_ASSOCIATED, _UNASSOCIATED):
                return number
        return None

    @property
    def chunk_samples(self) -> int:
        """The values per pixel in one chunk."""
        return 1 if self.is_planar else self.samples

    @property
    def across(self) -> int:
        """The number of chunks from left to right."""
        return -(-self.width // self.chunk_width)

    @property
    def down(self) -> int:
        """The number of chunks from top to bottom."""
        return -(-self.height // self.chunk_height)

    @property
    def chunks(self) -> int:
        """The number of chunks of the page."""
        return self.across * self.down * (self.samples if self.is_planar else 1)

    def row_bytes(self) -> int:
        """Return the decoded bytes of one row of a chunk."""
        return (self.chunk_width * self.chunk_samples * (self.bits or 16) + 7) // 8

    def decoded_bytes(self) -> int:
        """Return the bytes of all chunks when they are decoded; tiles at the edges count whole."""
        rows = self.down * self.chunk_height if self.is_tiled else self.height
        return self.row_bytes() * rows * self.across * (self.samples if self.is_planar else 1)

    def places(self) -> tuple[array[int], array[int]]:
        """Return where chunks begin in the file, and how many bytes they have; 0 and 0 for one that is left out.

        Raises ImageCorruptError when they are missing, outside of the file, or overlap so much that reading them
        would be far more work than the file is long.
        """
        offsets_tag, sizes_tag = (TILE_OFFSETS, TILE_SIZES) if self.is_tiled else (STRIP_OFFSETS, STRIP_SIZES)
        if self.chunks > MAX_CHUNKS:
            raise ImageCorruptError(f"the TIFF directory claims {self.chunks} strips or tiles; write larger ones")
        offsets = self.directory.integers(offsets_tag, self.chunks)
        sizes = self.directory.integers(sizes_tag, self.chunks)
        if not sizes and len(offsets) == self.chunks:
            sizes = self._guessed_sizes(offsets)
        if len(offsets) < self.chunks or len(sizes) < self.chunks:
            raise ImageCorruptError(
                "the TIFF directory does not have the positions of its image data; it was cut off or is damaged"
            )
        end = len(self.directory.data)
        if any(at + size > end for at, size in zip(offsets, sizes, strict=True)):
            raise ImageCorruptError("the TIFF picture data reaches behind the end of the file; it was cut off")
        if sum(sizes) > _MOST_READS * end:
            raise ImageCorruptError("the strips or tiles of the TIFF overlap; the file is damaged")
        if self.compression == NO_COMPRESSION:
            self._check_uncompressed(sizes)
        return offsets, sizes

    def rows_of(self, chunk: int) -> int:
        """Return how many rows chunk ``chunk`` has; the last strip has fewer."""
        if self.is_tiled:
            return self.chunk_height
        return min(self.chunk_height, self.height - chunk % self.down * self.chunk_height)

    def _guessed_sizes(self, offsets: array[int]) -> array[int]:
        """Return the sizes of chunks in a file that does not have them: up to the next chunk, or the end."""
        edges = sorted({*offsets, len(self.directory.data)})
        following = dict(pairwise(edges))
        return array("Q", (following.get(at, at) - at for at in offsets))

    def _check_uncompressed(self, sizes: array[int]) -> None:
        row = self.row_bytes()
        if self.photometric == YCBCR and not self.is_planar:
            row = 0
        needed = sum(row * self.rows_of(chunk) for chunk, size in enumerate(sizes) if size)
        if row and (sum(sizes) < needed or any(size < row * self.rows_of(at) for at, size in enumerate(sizes) if size)):
            raise ImageCorruptError(f"the TIFF picture has {sum(sizes)} bytes but needs {needed}; it was cut off")


def layout_of(data: Buffer) -> TiffLayout:
    """Return the layout of the first page of ``data``. Raises ImageCorruptError when its header contradicts itself."""
    return page_layout(Directory(data))


def page_layout(directory: Directory) -> TiffLayout:
    """Return the layout of the page that ``directory`` describes; see layout_of."""
    if not directory.has(WIDTH) or not directory.has(HEIGHT):
        raise ImageCorruptError("the TIFF directory has no picture size")
    width, height = directory.integer(WIDTH), directory.integer(HEIGHT)
    if width <= 0 or height <= 0:
        raise ImageCorruptError(f"the TIFF's header says {width}×{height} pixels; the file is damaged")
    samples = directory.integer(SAMPLES, 1)
    if not 1 <= samples <= MAX_SAMPLES:
        raise ImageCorruptError(f"the TIFF's header says {samples} bands; at most {MAX_SAMPLES} are read")
    bits = set(directory.integers(BITS, samples) or (1,))
    formats = set(directory.integers(SAMPLE_FORMAT, samples) or (UNSIGNED,))
    is_tiled = directory.has(TILE_WIDTH)
    if is_tiled:
        chunk_width, chunk_height = directory.integer(TILE_WIDTH), directory.integer(TILE_HEIGHT)
    else:
        chunk_width, chunk_height = width, min(height, directory.integer(ROWS_PER_STRIP, height) or height)
    if chunk_width <= 0 or chunk_height <= 0:
        raise ImageCorruptError(f"the TIFF's header says tiles of {chunk_width}×{chunk_height}; the file is damaged")
    across, down = (*directory.integers(SUBSAMPLING, 2), 2, 2)[:2]
    return TiffLayout(
        directory=directory,
        width=width,
        height=height,
        samples=samples,
        bits=bits.pop() if len(bits) == 1 else 0,
        sample_format=formats.pop() if len(formats) == 1 else 0,
        photometric=directory.integer(PHOTOMETRIC, RGB if samples >= 3 else MINISBLACK),
        compression=directory.integer(COMPRESSION, NO_COMPRESSION),
        predictor=directory.integer(PREDICTOR, 1),
        is_planar=directory.integer(PLANAR, 1) == 2 and samples > 1,
        is_tiled=is_tiled,
        chunk_width=chunk_width,
        chunk_height=chunk_height,
        extra=tuple(directory.integers(EXTRA_SAMPLES, samples)),
        subsampling=(int(across), int(down)),
    )


def chunk_positions(layout: TiffLayout, plane: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, top and left of the chunks of band ``plane`` (0 if all bands are together), row by row."""
    first = plane * layout.across * layout.down
    for row in range(layout.down):
        for column in range(layout.across):
            yield first + row * layout.across + column, row * layout.chunk_height, column * layout.chunk_width
