"""Opens a picture for `standgale detect`: in memory, or by window for a TIFF that is large or has a position."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING

from detectors.geometry.arrays import Detections, ImageArray
from detectors.rasters.file import RasterFile, is_tiff
from detectors.rasters.header import RasterHeader, raster_header
from detectors.rasters.source import RasterSource
from detectors.tiff.areas import PixelArea
from detectors.tiling.sources import ArraySource, TileSource
from infra.errors import ImageCorruptError, SettingsError
from infra.extras import install_extra
from infra.regular_files import read_regular
from ingest.images.check import ImageError, ImageLimits, inspect_image
from ingest.images.exif import Capture, MetadataWarning, read_capture, read_tiff_capture

if TYPE_CHECKING:
    from detectors.rasters.ground import Georeference

# A TIFF above either size is read by window and never decoded in memory.
WINDOW_PIXELS = 40_000_000
WINDOW_BYTES = 100_000_000
# What is decoded in memory has at most 16 bits in four channels for a pixel, and metadata beside them.
_MOST_BYTES_PER_PIXEL = 8
# The longer side of the picture that boxes of a raster are drawn on.
DRAWN_PX = 4096


@dataclass(frozen=True, slots=True)
class Picture:
    """Holds an open picture: width and height in pixels, gsd_m in metres on the ground per pixel (None: unknown)."""

    width: int
    height: int
    source: TileSource
    gsd_m: float | None
    image: ImageArray | None = None
    raster: RasterFile | None = None
    ground: Georeference | None = None
    """The position of its pixels on earth; None if it has none."""
    scaled_from: tuple[float, float] | None = None
    """The values that became 0 and 255; None where values are 0 to 255 already."""
    capture: Capture = field(default_factory=Capture)
    """What EXIF and XMP say; nothing is read of a raster that states its scale itself."""

    def shown_with(self, found: Detections) -> tuple[ImageArray, Detections]:
        """Return the picture to draw on, uint8 (h, w, 3) BGR, and ``found`` in its pixels; rasters are reduced."""
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
    """Open the picture at ``path``; one that is decoded in memory may have at most ``max_pixels``.

    A TIFF is read by window if it is large, has a position on earth, or only the extra geo reads it. Raises
    SettingsError if the file cannot be read, or needs a missing library; ImageCorruptError if it is no picture.
    """
    raster = _raster(path, max_pixels)
    if raster is None:
        yield _with_ground_warning(_decoded(path, max_pixels), path)
        return
    with raster:
        gsd_m = raster.gsd_m
        if not raster.shows_colours:
            shown = _decoded(path, max_pixels)
            yield replace(shown, gsd_m=shown.gsd_m if gsd_m is None else gsd_m, ground=raster.ground)
            return
        capture = Capture() if gsd_m is not None else _capture_of_tiff(path, (raster.width, raster.height))
        yield Picture(
            raster.width,
            raster.height,
            RasterSource(raster),
            _gsd_of(capture, raster.width) if gsd_m is None else gsd_m,
            raster=raster,
            ground=raster.ground,
            scaled_from=raster.scaled_from,
            capture=capture,
        )


def _raster(path: Path, max_pixels: int) -> RasterFile | None:
    """Open ``path`` to be read by window; None if it is decoded in memory."""
    try:
        if not is_tiff(path):
            return None
        large = path.stat().st_size > WINDOW_BYTES
    except OSError as error:
        raise _unreadable(path, error) from error
    if not large and find_spec("rasterio") is None and not _only_by_window(path, max_pixels):
        return None
    header = raster_header(path)
    in_memory = not large and header.width * header.height <= min(max_pixels, WINDOW_PIXELS)
    in_memory = in_memory and header.verdict.reader == "plain"
    if in_memory and not header.may_have_ground:
        return None
    raster = RasterFile(path)
    if not in_memory or raster.ground is not None:
        return raster
    raster.close()
    return None


def _only_by_window(path: Path, max_pixels: int) -> bool:
    """Return whether the TIFF at ``path`` has too many pixels for memory, but could be read by window."""
    header = _readable_header(path)
    return header is not None and header.width * header.height > max_pixels and header.verdict.reader != "none"


def _readable_header(path: Path) -> RasterHeader | None:
    try:
        return raster_header(path)
    except ImageCorruptError:
        # The decoder reads it all the same, or says what is wrong with it.
        return None


def _with_ground_warning(shown: Picture, path: Path) -> Picture:
    """Return ``shown``; where ``path`` names a coordinate system that nothing here can read, with a warning."""
    if find_spec("rasterio") is not None or not is_tiff(path):
        return shown
    header = _readable_header(path)
    if header is None or not header.may_have_ground:
        return shown
    text = f"its place on the map and its scale were not read; for them {install_extra('geo')}"
    unread = MetadataWarning(text, frozenset())
    return replace(shown, capture=replace(shown.capture, warnings=(*shown.capture.warnings, unread)))


def _decoded(path: Path, max_pixels: int) -> Picture:
    from detectors.images.decode import decode_picture  # noqa: PLC0415 (its libraries; rasters are read without)

    try:
        data = read_regular(path, max_pixels * _MOST_BYTES_PER_PIXEL + WINDOW_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        decoded = decode_picture(data, max_pixels=max_pixels)
    except ImageCorruptError as error:
        raise ImageCorruptError(f"{path}: {error}") from error
    height, width = decoded.image.shape[:2]
    capture = _capture_of(data, max_pixels)
    return Picture(
        width,
        height,
        ArraySource(decoded.image),
        _gsd_of(capture, width),
        image=decoded.image,
        scaled_from=decoded.scaled_from,
        capture=capture,
    )


def _capture_of(data: bytes, max_pixels: int) -> Capture:
    try:
        info = inspect_image(data, ImageLimits(len(data), 1, max_pixels, max_pixels))
    except ImageError as error:
        # The decoder accepts pictures that the gateway refuses; nothing is known about their scale.
        unread = MetadataWarning(f"EXIF and XMP were not read: {error}", frozenset())
        return Capture(warnings=(unread,))
    return read_capture(data, info)


def _capture_of_tiff(path: Path, size: tuple[int, int]) -> Capture:
    """Read the metadata of a TIFF that may be larger than memory."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        return read_tiff_capture(data, size)


def _gsd_of(capture: Capture, width: int) -> float | None:
    """Return metres per pixel by the picture's metadata; None if they do not have it."""
    return None if capture.camera is None else capture.camera.ground_sampling_distance_m(width)


def require_ground_reader(path: Path, option: str) -> None:
    """Raise SettingsError if ``path`` may state its position and scale, for ``option``, but nothing can read them."""
    if find_spec("rasterio") is None and is_tiff(path):
        raise SettingsError(
            f"{option}: position and scale of the TIFF {path} are read by the library 'rasterio', which is not "
            f"installed; {install_extra('geo')}"
        )


def _unreadable(path: Path, error: OSError) -> SettingsError:
    return SettingsError(f"{path}: cannot be read ({error.strerror}); give the path of a picture")
