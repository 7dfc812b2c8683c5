"""Reads format, size and metadata positions from an image's header, and checks them against limits."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from infra.images import errors as unreadable
from infra.images.foreign import FORMATS, refusal_of
from ingest.images.formats import jpeg, png, tiff, webp
from ingest.images.formats.header import (
    Admit,
    CorruptedFileError,
    FileTooLargeError,
    Header,
    ImageError,
    InvalidDimensionsError,
    InvalidFormatError,
    Metadata,
    Span,
    TooCostlyError,
)
from schemas.errors import StandgaleError
from schemas.events import MediaType

__all__ = [
    "CorruptedFileError",
    "FileTooLargeError",
    "ImageError",
    "ImageInfo",
    "ImageLimits",
    "InvalidDimensionsError",
    "InvalidFormatError",
    "Metadata",
    "Span",
    "TooCostlyError",
    "inspect_image",
]

_Scan = Callable[[bytes, Admit], Header]
_ERRORS: Mapping[type[StandgaleError], type[ImageError]] = {
    unreadable.UnsupportedImageError: InvalidFormatError,
    unreadable.DamagedImageError: CorruptedFileError,
    unreadable.EmptyImageError: InvalidDimensionsError,
    unreadable.CostlyImageError: TooCostlyError,
}


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Limits the images that are accepted; the names are those of the gateway's settings, and are in error texts."""

    max_image_bytes: int
    min_side_px: int
    max_side_px: int
    max_pixels: int
    setting_names: tuple[str, str, str] = ("max_image_bytes", "max_side_px", "max_pixels")
    """The settings of the upper limits: bytes, side, pixels"""
    formats: Sequence[str] = FORMATS
    """Those that are accepted, of JPEG, PNG, TIFF and WebP"""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Describes an image by its header: size in stored pixels (EXIF orientation not applied), metadata positions."""

    media_type: MediaType
    width: int
    height: int
    size_bytes: int
    metadata: Metadata


def inspect_image(data: bytes, limits: ImageLimits) -> ImageInfo:
    """Recognise and check ``data`` by its content.

    Needs time linear in the size at worst, and memory that does not depend on the header. Raises FileTooLargeError,
    InvalidFormatError (none of the four formats, or a variant that detectors cannot decode), InvalidDimensionsError,
    CorruptedFileError (cut off or contradictory), TooCostlyError (decoding it takes far more work than its size
    needs), and no other error for any bytes.
    """
    if len(data) > limits.max_image_bytes:
        raise image_too_large(len(data), limits.max_image_bytes, limits.setting_names[0])
    media_type, scan = _recognise(data, limits)
    try:
        header = scan(data, lambda width, height: _require_size(width, height, limits))
    except (struct.error, IndexError) as error:
        raise CorruptedFileError(f"the {media_type} file ends inside its header; it was cut off") from error
    except unreadable.UnreadableImageError as error:
        raise _ERRORS[type(error)](str(error)) from error
    return ImageInfo(media_type, header.width, header.height, len(data), header.metadata)


def image_too_large(size_bytes: int, limit: int, setting: str = "max_image_bytes") -> FileTooLargeError:
    """Return the error for an image of ``size_bytes``, of which ``setting`` allows ``limit``."""
    return FileTooLargeError(f"the image has {size_bytes} bytes; at most {limit} are accepted ({setting})")


def _recognise(data: bytes, limits: ImageLimits) -> tuple[MediaType, _Scan]:
    if data.startswith(jpeg.MAGIC):
        return "image/jpeg", partial(jpeg.scan, max_pixels=limits.max_pixels)
    if data.startswith(png.MAGIC):
        return "image/png", png.scan
    if webp.matches(data):
        if "WebP" in limits.formats:
            return "image/webp", webp.scan
        raise InvalidFormatError(f"this is a WebP picture, and only {', '.join(limits.formats)} are accepted here")
    if data.startswith(tiff.MAGICS):
        return "image/tiff", tiff.scan
    raise InvalidFormatError(refusal_of(data, limits.formats))


def _require_size(width: int, height: int, limits: ImageLimits) -> None:
    if min(width, height) < limits.min_side_px:
        raise InvalidDimensionsError(
            f"the image is {width}x{height} px; each side needs at least {limits.min_side_px} (min_side_px)"
        )
    if max(width, height) > limits.max_side_px:
        raise InvalidDimensionsError(
            f"the image is {width}x{height} px; each side may have at most {limits.max_side_px} "
            f"({limits.setting_names[1]})"
        )
    if width * height > limits.max_pixels:
        raise InvalidDimensionsError(
            f"the image has {width}x{height} = {width * height} pixels; at most {limits.max_pixels} are accepted "
            f"({limits.setting_names[2]})"
        )
