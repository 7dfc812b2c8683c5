"""Reads focal length and the width of the sensor that a picture shows, from EXIF and XMP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ingest.images.metadata.exif_tags import ExifTags
from ingest.images.metadata.numbers import parse_number
from ingest.images.metadata.warnings import Warnings

_FOCAL, _FOCAL_35MM, _ZOOM = 0x920A, 0xA405, 0xA404
_PLANE_RESOLUTION, _PLANE_UNIT, _PIXELS_ACROSS, _PIXELS_DOWN = 0xA20E, 0xA210, 0xA002, 0xA003
_WIDTH = "sensor_width_mm"

_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
_FULL_FRAME_DIAGONAL_MM = math.hypot(36, 24)
# Pixels of real sensors; FLIR and DJI write the sensor's width into the tag of its resolution.
_FINEST_PITCH_UM, _COARSEST_PITCH_UM = 0.5, 40.0
# Focal length for film by the real one: from medium format to the smallest sensors.
_LEAST_CROP, _MOST_CROP = 0.4, 60.0
_MOST_ZOOM = 100.0
# Two ways to the sensor's width that differ by more do not mean the same sensor.
_SAME_WIDTH = 1.25
# A picture whose shape differs more from that of the camera's pixels was cut.
_SAME_SHAPE = 0.02


@dataclass(frozen=True, slots=True)
class _Pixels:
    """Is the size of the picture as the camera took it."""

    width: float
    height: float
    whole: bool
    """Whether the picture shows its whole width; one that was cut may also have been reduced."""


def read_lens(
    tags: ExifTags, xmp: Mapping[str, str], size: tuple[int, int], warnings: Warnings
) -> tuple[float | None, float | None]:
    """Return focal length and sensor width in millimetres of a picture of ``size`` (width, height).

    The width is what the picture shows of the sensor: a digital zoom of 4 shows a quarter.
    """
    focal = _value(tags, xmp, _FOCAL, "exif:FocalLength")
    if not focal and xmp.get("Camera:PerspectiveFocalLengthUnits", "mm") == "mm":
        focal = parse_number(xmp.get("Camera:PerspectiveFocalLength", ""))
    if focal is None or focal <= 0:
        return None, None
    pixels = _camera_pixels(tags, size)
    if not pixels.whole:
        warnings.add(
            f"the picture is {size[0]}x{size[1]} px, but the camera took {pixels.width:g}x{pixels.height:g}: it was "
            "cut, so the width of the sensor that it shows is unknown",
            _WIDTH,
        )
        return focal, None
    width = _sensor_width(tags, xmp, focal, pixels, warnings)
    return focal, None if width is None else width / _zoom(tags, xmp, warnings)


def _value(tags: ExifTags, xmp: Mapping[str, str], tag: int, name: str) -> float | None:
    found = tags.exif.number(tag)
    return parse_number(xmp.get(name, "")) if found is None else found


def _sensor_width(
    tags: ExifTags, xmp: Mapping[str, str], focal_mm: float, pixels: _Pixels, warnings: Warnings
) -> float | None:
    """Return the sensor's width by its pixel pitch, or else by the focal length for 35 mm film."""
    by_pitch = _by_pitch(tags, pixels, warnings)
    by_film = _by_film(_value(tags, xmp, _FOCAL_35MM, "exif:FocalLengthIn35mmFilm"), focal_mm, pixels, warnings)
    if by_pitch and by_film and not 1 / _SAME_WIDTH < by_pitch / by_film < _SAME_WIDTH:
        warnings.add(
            f"the sensor is {by_pitch:.3g} mm wide by FocalPlaneXResolution, but {by_film:.3g} mm by "
            "FocalLengthIn35mmFilm; the former was used",
            _WIDTH,
        )
    return by_pitch or by_film


def _by_pitch(tags: ExifTags, pixels: _Pixels, warnings: Warnings) -> float | None:
    resolution = tags.exif.number(_PLANE_RESOLUTION)
    unit_mm = _UNIT_MM.get(int(tags.exif.number(_PLANE_UNIT) or 2))
    if not resolution or resolution <= 0 or unit_mm is None:
        return None
    pitch_um = 1_000 * unit_mm / resolution
    if _FINEST_PITCH_UM <= pitch_um <= _COARSEST_PITCH_UM:
        return pixels.width * pitch_um / 1_000
    warnings.add(
        f"FocalPlaneXResolution {resolution:g} would be pixels of {pitch_um:.3g} µm on the sensor; it was not used",
        _WIDTH,
    )
    return None


def _by_film(film_mm: float | None, focal_mm: float, pixels: _Pixels, warnings: Warnings) -> float | None:
    """Return the width by the focal length that shows the same on 36 × 24 mm.

    It compares diagonals (CIPA DCG-001) of the whole sensor. Pictures wider than 3:2 are cut from a 4:3 sensor and have
    its width, so they count as 4:3.
    """
    if film_mm is None or film_mm <= 0:
        return None
    if not _LEAST_CROP <= film_mm / focal_mm <= _MOST_CROP:
        warnings.add(
            f"FocalLengthIn35mmFilm {film_mm:g} does not fit the focal length {focal_mm:g} mm; it was not used", _WIDTH
        )
        return None
    aspect = pixels.width / pixels.height
    if max(aspect, 1 / aspect) > 1.51:
        aspect = 4 / 3 if aspect > 1 else 3 / 4
    return _FULL_FRAME_DIAGONAL_MM * focal_mm / film_mm * aspect / math.hypot(aspect, 1)


def _zoom(tags: ExifTags, xmp: Mapping[str, str], warnings: Warnings) -> float:
    """Return by how much the camera enlarged a part of the sensor; 0 means that it did not."""
    zoom = _value(tags, xmp, _ZOOM, "exif:DigitalZoomRatio")
    if zoom is None or zoom in {0, 1}:
        return 1.0
    if not 1 < zoom <= _MOST_ZOOM:
        warnings.add(f"DigitalZoomRatio is {zoom:g}, which no camera has; it was not used", _WIDTH)
        return 1.0
    warnings.add(f"DigitalZoomRatio is {zoom:g}: the picture counts as that part of the sensor's width", _WIDTH)
    return zoom


def _camera_pixels(tags: ExifTags, size: tuple[int, int]) -> _Pixels:
    """Return the size that the camera wrote into EXIF, turned as the picture is; that of the picture without one."""
    width, height = size
    across, down = tags.exif.number(_PIXELS_ACROSS), tags.exif.number(_PIXELS_DOWN)
    if not across or not down or across < 1 or down < 1:
        return _Pixels(across if across and across >= 1 else width, height, whole=True)
    if (across > down) != (width > height) and across != down and width != height:
        across, down = down, across
    shape = (width / height) / (across / down)
    same_shape = abs(shape - 1) <= _SAME_SHAPE + 1.5 / min(width, height)
    return _Pixels(across, down, whole=same_shape or width == across)
