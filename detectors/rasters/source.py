"""Reads a raster's tiles in bands, one band ahead of the engine, so that the picture is never whole in memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from detectors.geometry.arrays import ImageArray
from detectors.rasters.file import Pixels, RasterFile
from detectors.tiff.areas import PixelArea
from detectors.tiling.letterbox import Placement, letterbox_into
from detectors.tiling.sources import TileBatch
from detectors.tiling.tiles import TilePlan

# About the most bytes of pixels that are read for neighbouring tiles together; three such bands may be alive at once.
LARGEST_BAND_BYTES = 96 << 20
# Smaller ones do where the file keeps what neighbouring bands share.
_SMALL_BAND_BYTES = 2 << 20

_Writer = Callable[[ImageArray], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Band:
    """Holds the tiles ``first`` to ``first + count - 1`` of a plan, and the area that has all of them."""

    first: int
    count: int
    area: PixelArea
    size: tuple[int, int] | None = None
    """Width and height to read the area in; None: as it is"""


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    band: _Band
    pixels: Pixels


class RasterSource:
    """Gives the tiles of a raster once. ``empty``: the number of tiles left out so far because they show nothing."""

    def __init__(self, file: RasterFile, band_bytes: int = LARGEST_BAND_BYTES) -> None:
        self.file = file
        self.width, self.height = file.width, file.height
        self.empty = 0
        self._most_pixels = band_bytes // 3

    def batches(self, plan: TilePlan, size: int) -> Generator[TileBatch, None, None]:
        """See TileSource. Raises ImageCorruptError where the file is broken."""
        numbers: list[int] = []
        writers: list[_Writer] = []
        passed = 0
        for loaded in self._loaded(self._bands(plan)):
            for number in range(loaded.band.first, loaded.band.first + loaded.band.count):
                passed += 1
                writer = self._writer(plan, number, loaded)
                if writer is None:
                    self.empty += 1
                    continue
                numbers.append(number)
                writers.append(writer)
                if len(numbers) == size:
                    yield TileBatch(tuple(numbers), _cutter(plan, writers), passed)
                    numbers, writers = [], []
        if numbers:
            yield TileBatch(tuple(numbers), _cutter(plan, writers), passed)

    def _bands(self, plan: TilePlan) -> list[_Band]:
        """Return the bands of ``plan`` in the order in which they are read."""
        boxes = [(left, top, right, bottom) for left, top, right, bottom in plan.boxes.tolist()]
        spans = {(top, bottom) for _, top, _, bottom in boxes if bottom - top < self.height}
        widest = max((right - left for left, _, right, _ in boxes if right - left < self.width), default=self.width)
        stripe = self.file.keep_rows(spans or {(0, self.height)}, widest)
        if not stripe:
            return bands(plan, self._most_pixels, self._most_pixels, self.width)
        found = bands(plan, self._most_pixels, min(self._most_pixels, _SMALL_BAND_BYTES // 3), stripe)
        return sorted(found, key=lambda band: band.area.left // stripe)

    def _loaded(self, wanted: Sequence[_Band]) -> Iterator[_Loaded]:
        """Yield ``wanted`` in order; each is read while the one before is processed."""
        with ThreadPoolExecutor(1, thread_name_prefix="raster") as reader:
            pending = reader.submit(self._load, wanted[0], None)
            for following in wanted[1:]:
                current = pending.result()
                pending = reader.submit(self._load, following, current)
                yield current
                del current
            yield pending.result()

    def _load(self, band: _Band, before: _Loaded | None) -> _Loaded:
        """Read the pixels of ``band``; the rows that it shares with the one ``before`` are copied from there.

        So a file without tiles is read from top to bottom, each row once.
        """
        if band.size is not None:
            return _Loaded(band, self.file.reduced(band.area, *band.size))
        shared = 0 if before is None else _shared_rows(before.band, band)
        if before is None or not shared:
            return _Loaded(band, self.file.read(band.area))
        below = self.file.read(replace(band.area, top=band.area.top + shared))
        above = slice(before.band.area.height - shared, None)
        image = np.concatenate((before.pixels.image[above], below.image))
        content = None
        if below.content is not None or before.pixels.content is not None:
            content = np.ones(image.shape[:2], np.bool_)
            if before.pixels.content is not None:
                content[:shared] = before.pixels.content[above]
            if below.content is not None:
                content[shared:] = below.content
        return _Loaded(band, Pixels(image, content))

    def _writer(self, plan: TilePlan, number: int, loaded: _Loaded) -> _Writer | None:
        """Return what writes tile ``number`` into a (H, W, 3) array; None for a tile without content."""
        left, top, right, bottom = plan.boxes[number].tolist()
        at = Placement(*plan.placed[number].tolist())
        rows, columns = slice(None), slice(None)
        if loaded.band.size is None:
            rows = slice(top - loaded.band.area.top, bottom - loaded.band.area.top)
            columns = slice(left - loaded.band.area.left, right - loaded.band.area.left)
        content = loaded.pixels.content
        if content is not None and not content[rows, columns].any():
            return None
        picture = loaded.pixels.image[rows, columns]
        (averaged,) = plan.averaged(number, 1)
        return lambda out: letterbox_into(out, picture, at, plan.pad, averaged)


def bands(plan: TilePlan, most_pixels: int, joined_pixels: int, stripe: int) -> list[_Band]:
    """Return the tiles of ``plan`` in groups that are read together: neighbours in a row, up to ``joined_pixels``.

    All tiles of a group begin in one stripe, of ``stripe`` columns. A single tile with more than ``most_pixels``
    (usually the whole-frame tile) is read at the size that it has in the model's input.
    """
    found: list[_Band] = []
    boxes, placed = plan.boxes.tolist(), plan.placed.tolist()
    for number, (left, top, right, bottom) in enumerate(boxes):
        area = PixelArea(left, top, right, bottom)
        if area.width * area.height > most_pixels:
            found.append(_Band(number, 1, area, (placed[number][2], placed[number][3])))
            continue
        last = found[-1] if found else None
        if last is not None and last.size is None and (last.area.top, last.area.bottom) == (top, bottom):
            joined = replace(last.area, right=max(last.area.right, right))
            together = left >= last.area.left and left // stripe == last.area.left // stripe
            if together and joined.width * joined.height <= joined_pixels:
                found[-1] = replace(last, count=last.count + 1, area=joined)
                continue
        found.append(_Band(number, 1, area))
    return found


def _shared_rows(above: _Band, below: _Band) -> int:
    """Return how many last rows of ``above`` are the first ones of ``below``; 0 unless their columns are the same."""
    same = (above.area.left, above.area.right) == (below.area.left, below.area.right)
    overlapping = above.area.top <= below.area.top < above.area.bottom <= below.area.bottom
    return above.area.bottom - below.area.top if above.size is None and same and overlapping else 0


def _cutter(plan: TilePlan, writers: list[_Writer]) -> Callable[[], ImageArray]:
    def cut() -> ImageArray:
        tiles = np.empty((len(writers), plan.input_height, plan.input_width, 3), np.uint8)
        for tile, write in zip(tiles, writers, strict=True):
            write(tile)
        # The pixels of a band are not needed any longer; the caller may hold the batch until it is processed.
        writers.clear()
        return tiles

    return cut
