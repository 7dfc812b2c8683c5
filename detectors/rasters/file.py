"""Opens a TIFF that stays on disk, reads only that one local file, and reads it by window."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from detectors.geometry.arrays import BoolArray, ImageArray
from detectors.rasters.bands import has_mask_of_its_own, rule_of
from detectors.rasters.ground import Georeference
from detectors.rasters.header import RasterHeader, raster_header
from detectors.rasters.reports import collected_reports, missing_data
from detectors.tiff.areas import PixelArea, parts, sample_places
from detectors.tiff.pixels import Bands, PixelRule
from infra.errors import ImageCorruptError, SettingsError
from infra.extras import install_extra
from infra.regular_files import open_regular
from infra.tiff.directory import MAGICS
from schemas.geometry import COARSEST_GSD_M, FINEST_GSD_M

# What the library keeps of decoded blocks: enough that neighbouring tiles decode no block twice, within these limits.
LEAST_CACHE_BYTES, MOST_CACHE_BYTES = 8 << 20, 96 << 20
# Where it would be more, the picture is read in stripes; each is at least as wide as so many tiles, and as so many
# blocks, because the blocks between two stripes are decoded for both.
USUAL_CACHE_BYTES = 14 << 20
_LEAST_IN_A_STRIPE = 4
# The library counts some bytes of its own for each block.
_CACHE_OVERHEAD_BYTES = 1 << 20
# Raw values are read in parts of about this size.
PART_BYTES = 2 << 20
# A part of the file that can only be decoded in one piece may be so large.
LARGEST_BLOCK_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """Holds pixels that were read."""

    image: ImageArray
    """uint8 (h, w, 3) BGR"""
    content: BoolArray | None
    """bool (h, w), the pixels that have content; None when all have"""


def is_tiff(path: Path) -> bool:
    """Return whether the file at ``path`` begins as a TIFF does. Raises OSError when it cannot be read."""
    with open_regular(path) as file:
        return file.read(4) in MAGICS


class RasterFile:
    """Reads an open TIFF. All threads may call it; one read waits for the other.

    width, height: pixels; ground: its georeference, or None; gsd_m: metres on the ground per pixel in the picture's
    middle, None where unknown; where rows and columns differ (as with degrees far from the equator) the finer of the
    two.
    """

    def __init__(self, path: Path) -> None:
        """Raises SettingsError without rasterio, ImageCorruptError when ``path`` is no local TIFF that can be shown."""
        self.path = path
        self._lock = threading.Lock()
        self._rasterio, self._resampling = _library(path)
        self._block_bytes = 0
        self._kept_bytes = LEAST_CACHE_BYTES
        self._check_local()
        header = self._checked_header()
        self.shows_colours = not (header.space == "lab" and header.bits == 8)
        """False where the library makes wrong colours of right ones; such a file is decoded in memory."""
        self._data: Any = self._open()
        try:
            self.width, self.height = int(self._data.width), int(self._data.height)
            self._block = self._checked_block()
            self._mask_beside = has_mask_of_its_own(self._data)
            self._rule = rule_of(self._data, header.space, path)
            self._rule = self._scaled(self._rule)
            self.ground, self.gsd_m = self._georeference()
        except BaseException:
            self._data.close()
            raise

    @property
    def scaled_from(self) -> tuple[float, float] | None:
        """Return the values that become 0 and 255; None where values are 0 to 255 already."""
        return self._rule.scaled_from

    def keep_rows(self, spans: Iterable[tuple[int, int]], widest: int) -> int:
        """Keep decoded blocks from now on so that areas with the rows of ``spans``, left to right, share them.

        ``spans``: the first row and the one after the last of each area; ``widest``: the most columns of one. Returns
        the width of stripes: first all areas that begin in the left one should be read, downwards, then those of the
        next. 0 if even a narrow stripe needs too much memory: then areas should be as wide as the picture.
        """
        block_height, block_width = self._block
        blocks = max((-(-bottom // block_height) - top // block_height for top, bottom in spans), default=1)
        column = blocks * block_height * self._decoded_bands() * np.dtype(self._data.dtypes[0]).itemsize
        # The last areas of a stripe reach beyond it, and a stripe may begin within a block.
        beyond = widest + block_width
        most = max(USUAL_CACHE_BYTES // column - beyond, _LEAST_IN_A_STRIPE * max(widest, block_width))
        wide = -(-self.width // -(-self.width // most))
        needed = min(wide + beyond, -(-self.width // block_width) * block_width) * column
        self._kept_bytes = min(MOST_CACHE_BYTES, max(LEAST_CACHE_BYTES, needed + _CACHE_OVERHEAD_BYTES))
        return wide if needed <= MOST_CACHE_BYTES else 0

    def _decoded_bands(self) -> int:
        """Return how many bands are decoded for a pixel: all where a block has all."""
        return int(self._data.count) if self._is_together() else len(self._rule.bands)

    def _is_together(self) -> bool:
        """Return whether a block has all bands."""
        return str(self._data.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE")) == "PIXEL"

    def read(self, area: PixelArea) -> Pixels:
        """Read ``area`` as it is. Raises ImageCorruptError when the file is broken there."""
        image = np.empty((area.height, area.width, 3), np.uint8)
        content: BoolArray | None = None
        for part in parts(area, self._block, PART_BYTES // self._pixel_bytes()):
            pixels = self._pixels(part, None)
            rows = slice(part.top - area.top, part.bottom - area.top)
            columns = slice(part.left - area.left, part.right - area.left)
            image[rows, columns] = pixels.image
            if pixels.content is not None:
                content = np.ones(image.shape[:2], np.bool_) if content is None else content
                content[rows, columns] = pixels.content
        return Pixels(image, content)

    def reduced(self, area: PixelArea, width: int, height: int) -> Pixels:
        """Read ``area`` at ``width`` × ``height`` pixels, averaged; from the file's overviews where it has them."""
        return self._pixels(area, (height, width))

    def close(self) -> None:
        """Close the file. No read may be in progress or follow."""
        self._data.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _checked_header(self) -> RasterHeader:
        """Return the header. Raises ImageCorruptError for what nobody reads, before the library opens the file."""
        header = raster_header(self.path)
        if header.verdict.reader == "none":
            raise ImageCorruptError(f"{self.path}: {header.verdict.reason}")
        return header

    def _check_local(self) -> None:
        path = self.path.resolve()
        try:
            genuine = path.is_file() and is_tiff(path) and not path.as_posix().startswith("/vsi")
        except OSError as error:
            raise ImageCorruptError(f"{self.path}: cannot be read ({error.strerror})") from error
        if not genuine:
            raise ImageCorruptError(f"{self.path}: no TIFF file on this machine; only those are read by window")

    def _open(self) -> Any:
        path = self.path.resolve()
        with self._guarded(), warnings.catch_warnings():
            # A raster may have no georeference.
            warnings.simplefilter("ignore", self._rasterio.errors.NotGeoreferencedWarning)
            try:
                return self._rasterio.open(path, driver="GTiff", sharing=False)
            except self._rasterio.errors.RasterioError as error:
                raise ImageCorruptError(f"{self.path}: {_reason(error)}; the file is damaged or cut short") from error

    def _guarded(self) -> Any:
        """Return GDAL's options during a call: no files next to the picture, no network, a bounded cache."""
        return self._rasterio.Env(
            GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
            GDAL_PAM_ENABLED="NO",
            GDAL_CACHEMAX=max(self._kept_bytes, 2 * self._block_bytes),
            PROJ_NETWORK="OFF",
        )

    def _checked_block(self) -> tuple[int, int]:
        """Return height and width of the smallest decodable part. Raises ImageCorruptError when it is too large."""
        height, width = (int(side) for side in self._data.block_shapes[0])
        together = self._data.count if self._is_together() else 1
        self._block_bytes = height * width * together * np.dtype(self._data.dtypes[0]).itemsize
        if self._block_bytes > LARGEST_BLOCK_BYTES:
            raise ImageCorruptError(
                f"{self.path}: its blocks have {width}×{height} pixels, {self._block_bytes} bytes, and can be read in "
                f"one piece only; at most {LARGEST_BLOCK_BYTES} are taken. Write it again in tiles: "
                "gdal_translate -co TILED=YES"
            )
        return height, width

    def _pixel_bytes(self) -> int:
        return len(self._rule.bands) * int(np.dtype(self._data.dtypes[0]).itemsize)

    def _scaled(self, rule: PixelRule) -> PixelRule:
        """Return ``rule`` with the range of the file's values where they are not 0 to 255 already."""
        if rule.is_ready_for(np.dtype(self._data.dtypes[0])):
            return rule
        samples = [self._raw(place, rule.bands, None) for place in sample_places(self.width, self.height)]
        if not any(rule.has_content(raw) for raw in samples):
            whole = PixelArea(0, 0, self.width, self.height)
            size = (min(self.height, 1024), min(self.width, 1024))
            samples = [self._raw(whole, rule.bands, size)]
        return rule.scaled_to(samples)

    def _georeference(self) -> tuple[Georeference | None, float | None]:
        crs = self._data.crs
        # Others have no directions on the ground: of a building site, a height, or from the centre of the earth.
        if crs is None or not (crs.is_geographic or crs.is_projected) or self._data.transform.is_identity:
            return None, None
        ground = Georeference(crs, tuple(self._data.transform)[:6])
        with self._guarded():
            finer = min(ground.pixel_sides_m(self.width / 2, self.height / 2))
        if not math.isfinite(finer) or finer <= 0:
            return None, None
        return ground, finer if FINEST_GSD_M <= finer <= COARSEST_GSD_M else None

    def _pixels(self, area: PixelArea, size: tuple[int, int] | None) -> Pixels:
        image, content = self._rule.apply(self._raw(area, self._rule.bands, size))
        if self._mask_beside:
            mask = self._mask(area, size)
            content = mask if content is None else content & mask
        return Pixels(image, None if content is None or bool(content.all()) else content)

    def _raw(self, area: PixelArea, bands: tuple[int, ...], size: tuple[int, int] | None) -> Bands:
        """Return (bands, h, w) of ``area``; ``size``: height and width to reduce it to."""
        shape = None if size is None else (len(bands), *size)
        found: Bands = self._guarded_read(area, shape, lambda **how: self._data.read(list(bands), **how))
        return found

    def _mask(self, area: PixelArea, size: tuple[int, int] | None) -> BoolArray:
        found: Bands = self._guarded_read(area, size, lambda **how: self._data.read_masks(1, **how))
        present: BoolArray = found != 0
        return present

    def _guarded_read(self, area: PixelArea, shape: tuple[int, ...] | None, read: Any) -> Any:
        window = self._rasterio.windows.Window(area.left, area.top, area.width, area.height)
        how = {} if shape is None else {"out_shape": shape, "resampling": self._reducing()}
        with self._lock, self._guarded(), collected_reports() as reports:
            try:
                found = read(window=window, **how)
            except self._rasterio.errors.RasterioError as error:
                raise self._unreadable(area, _reason(error)) from error
        missing = missing_data(reports)
        if missing is not None:
            raise self._unreadable(area, missing)
        return found

    def _unreadable(self, area: PixelArea, reason: str) -> ImageCorruptError:
        return ImageCorruptError(
            f"{self.path}: columns {area.left} to {area.right}, rows {area.top} to {area.bottom} cannot be read "
            f"({reason}); the file is damaged or cut short"
        )

    def _reducing(self) -> Any:
        """Return how a picture is reduced: averaged, but not the numbers of a palette, which have no mean."""
        return self._resampling.average if self._rule.palette is None else self._resampling.nearest


def _reason(error: Exception) -> str:
    """Return what GDAL reports, which is in the error's cause when rasterio only refers to it."""
    cause = error.__cause__
    return str(getattr(cause, "errmsg", None) or cause or error)


def _library(path: Path) -> tuple[Any, Any]:
    try:
        import rasterio  # noqa: PLC0415 (an extra)
        import rasterio.enums  # noqa: PLC0415
        import rasterio.windows  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{path}: TIFF files that are large or unusual are read by the library {error.name!r}, which is not "
            f"installed; {install_extra('geo')}"
        ) from error
    return rasterio, rasterio.enums.Resampling
