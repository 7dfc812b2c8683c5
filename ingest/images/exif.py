"""Reads camera geometry and capture time from an image's EXIF and XMP, within limits and tolerant of errors.

A value that is damaged, missing or out of range counts as unknown and never refuses a frame; a warning says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ingest.images.check import ImageInfo, Metadata, Span
from ingest.images.metadata.camera_fields import known_fields
from ingest.images.metadata.capture_time import read_capture_time
from ingest.images.metadata.exif_tags import Buffer, read_tags
from ingest.images.metadata.flight import read_direction, read_heights
from ingest.images.metadata.lens import read_lens
from ingest.images.metadata.position import read_altitude_msl, read_position
from ingest.images.metadata.warnings import MetadataWarning, Warnings
from ingest.images.metadata.xmp_packets import read_xmp
from schemas.geometry import CameraGeometry

__all__ = ["Capture", "MetadataWarning", "is_quick", "read_capture", "read_tiff_capture"]

# More takes longer than a millisecond: XMP in bytes, and EXIF segments.
_QUICK_XMP_BYTES = 16_384
_QUICK_SEGMENTS = 2


@dataclass(frozen=True, slots=True)
class Capture:
    """Holds an image's camera geometry and capture time (UTC); None where the image has none."""

    camera: CameraGeometry | None = None
    captured_at: datetime | None = None
    warnings: tuple[MetadataWarning, ...] = ()
    """What could not be read, or had to be assumed."""


def is_quick(info: ImageInfo) -> bool:
    """Whether read_capture of the image needs about a millisecond at most; a TIFF may hold XMP of any size."""
    found = info.metadata
    xmp_bytes = sum(span.end - span.start for span in (*found.xmp, *found.extended_xmp))
    return info.media_type != "image/tiff" and xmp_bytes <= _QUICK_XMP_BYTES and len(found.exif) <= _QUICK_SEGMENTS


def read_capture(data: bytes, info: ImageInfo) -> Capture:
    """Return camera geometry and capture time of the image ``data``; no content makes it raise.

    A drone's XMP (heights, gimbal) replaces EXIF; docs/picture-metadata.md has the order of all values.
    """
    return _read(data, info.metadata, (info.width, info.height))


def read_tiff_capture(data: Buffer, size: tuple[int, int]) -> Capture:
    """Return the same for a TIFF of ``size`` (width, height), which may be mapped and not in memory."""
    return _read(data, Metadata(exif=[Span(0, len(data))]), size)


def _read(data: Buffer, metadata: Metadata, size: tuple[int, int]) -> Capture:
    if not (metadata.exif or metadata.xmp or metadata.extended_xmp or metadata.unread):
        return Capture()
    warnings = Warnings()
    for name in sorted(metadata.unread):
        warnings.add(f"the picture has {name}, which is not read")
    tags = read_tags(data, metadata.exif, warnings)
    xmp = read_xmp(data, metadata, tags, warnings)
    position = read_position(tags, xmp, warnings)
    fix = position is not None
    satellites_m = read_altitude_msl(tags, xmp, fix=fix, warnings=warnings)
    altitude, altitude_msl = read_heights(xmp, satellites_m, fix=fix, warnings=warnings)
    focal, sensor = read_lens(tags, xmp, size, warnings)
    heading, pitch = read_direction(tags, xmp, warnings)
    latitude, longitude = position or (None, None)
    values: dict[str, float | None] = {
        "altitude_m": altitude,
        "altitude_msl_m": altitude_msl,
        "focal_length_mm": focal,
        "sensor_width_mm": sensor,
        "latitude": latitude,
        "longitude": longitude,
        "heading_deg": heading,
        "pitch_deg": pitch,
    }
    fields = known_fields(values, warnings)
    return Capture(
        camera=CameraGeometry.model_validate(fields) if fields else None,
        captured_at=read_capture_time(tags, xmp, warnings),
        warnings=warnings.all(),
    )
