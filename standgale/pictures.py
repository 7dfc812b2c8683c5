"""What `standgale detect` looks at: a picture in memory, or a TIFF that is too large for it or lies on a map."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from detectors.geometry.arrays import Detections, ImageArray
from detectors.images.decode import decode_image
from detectors.rasters.areas import PixelArea
from detectors.rasters.file import RasterFile, is_tiff
from detectors.rasters.source import RasterSource
from detectors.tiling.sources import ArraySource, TileSource
from infra.errors import SettingsError
from ingest.images.check import ImageError, ImageLimits, inspect_image
from ingest.images.exif import read_capture

if TYPE_CHECKING:
    from detectors.rasters.ground import Georeference

# From here on a TIFF is read by window: it is not decoded in memory, however much of that there is.
WINDOW_PIXELS = 40_000_000
WINDOW_BYTES = 100_000_000
# The longer side of the picture of boxes over a raster.
DRAWN_PX = 4096


@dataclass(frozen=True, slots=True)
class Picture:
    """An open picture: width and height in pixels; gsd_m: metres on the ground per pixel, None where unknown."""

    width: int
    height: int
    source: TileSource
    gsd_m: float | None
    image: ImageArray | None = None
    raster: RasterFile | None = None

    @property
    def ground(self) -> Georeference | None:
        """Where its pixels lie on earth; None where it does not say."""
        return None if self.raster is None else self.raster.ground

    def shown_with(self, found: Detections) -> tuple[ImageArray, Detections]:
        """The picture to draw on, uint8 (h, w, 3) BGR, and ``found`` in its pixels: a raster is reduced to 4096."""
        if self.image is not None:
            return self.image, found
        assert self.raster is not None
        share = min(1.0, DRAWN_PX / max(self.width, self.height))
        size = (max(1, round(self.width * share)), max(1, round(self.height * share)))
        image = self.raster.reduced(PixelArea(0, 0, self.width, self.height), *size).image
        quads = None if found.quads is None else found.quads * share
        return image, Detections(found.boxes * share, found.scores, found.classes, quads)


@contextmanager
def open_picture(path: Path, max_pixels: int) -> Iterator[Picture]:
    """The picture at ``path``; one that is decoded in memory may have ``max_pixels``.

    A TIFF is read by window when it is large, lies on a map, or has more than 8 bits. Raises SettingsError when it
    cannot be read at all, or only with a library that is missing; ImageCorruptError when it is no picture.
    """
    raster = _raster(path, max_pixels)
    if raster is None:
        yield _decoded(path, max_pixels)
        return
    with raster:
        yield Picture(raster.width, raster.height, RasterSource(raster), raster.gsd_m, raster=raster)


def _raster(path: Path, max_pixels: int) -> RasterFile | None:
    """``path`` as a file to be read by window; None when it is to be decoded in memory."""
    try:
        if not is_tiff(path):
            return None
        large = path.stat().st_size > WINDOW_BYTES
    except OSError as error:
        raise _unreadable(path, error) from error
    if not large and find_spec("rasterio") is None:
        return None
    raster = RasterFile(path)
    many = raster.width * raster.height > min(max_pixels, WINDOW_PIXELS)
    if large or many or raster.ground is not None or not raster.plain:
        return raster
    raster.close()
    return None


def _decoded(path: Path, max_pixels: int) -> Picture:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    image = decode_image(data, max_pixels=max_pixels)
    height, width = image.shape[:2]
    return Picture(width, height, ArraySource(image), _gsd_of(data, width, max_pixels), image=image)


def _gsd_of(data: bytes, width: int, max_pixels: int) -> float | None:
    """Metres per pixel as the picture's own metadata tell them; None where they do not."""
    try:
        info = inspect_image(data, ImageLimits(len(data), 1, max_pixels, max_pixels))
    except ImageError:
        # The decoder took what the gateway would not: then there is nothing known about it.
        return None
    camera = read_capture(data, info).camera
    return None if camera is None else camera.ground_sampling_distance_m(width)


def _unreadable(path: Path, error: OSError) -> SettingsError:
    return SettingsError(f"{path}: cannot be read ({error.strerror}); give the path of a picture")
