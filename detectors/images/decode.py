"""Decodes JPEG, PNG, TIFF and WebP bytes into uint8 BGR pixels, in the orientation in which they are stored.

An EXIF orientation is not applied: width and height in events come from the image's header, and boxes have to match the
pixels as every other reader of the header counts them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from detectors.geometry.arrays import ImageArray
from detectors.images.jpeg import decode_jpeg
from detectors.images.opencv import decode_with_opencv
from detectors.images.png import bounded_png
from detectors.tiff.decode import DecodedPicture, decode_tiff
from infra.errors import ImageCorruptError
from infra.images import webp
from infra.images.errors import UnreadableImageError
from infra.images.foreign import refusal_of
from infra.images.jpeg import MAGIC as JPEG_MAGIC
from infra.images.jpeg import JpegFrame, header_of
from infra.images.png import MAGIC as PNG_MAGIC
from infra.images.png import PngHeader, read_header
from infra.tiff.directory import MAGICS as TIFF_MAGICS
from infra.tiff.layout import TiffLayout, layout_of


def image_size(data: bytes) -> tuple[int, int]:
    """Return width and height in pixels from the header of ``data``, without decoding it.

    Raises ImageCorruptError when ``data`` is not JPEG, PNG, TIFF or WebP, or its header is broken.
    """
    header = _header(data, max_pixels=0)
    return header.width, header.height


def _header(data: bytes, max_pixels: int) -> JpegFrame | PngHeader | TiffLayout | _WebpSize:
    """Return the header of ``data``; one of more than ``max_pixels`` is read up to its size.

    Raises ImageCorruptError when ``data`` is not JPEG, PNG, TIFF or WebP, or its header is broken.
    """
    with _as_corrupt():
        if data.startswith(JPEG_MAGIC):
            return header_of(data, max_pixels)[0]
        if data.startswith(PNG_MAGIC):
            return read_header(data)
        if webp.matches(data):
            return _WebpSize(*webp.size_of(data))
        if data[:4] in TIFF_MAGICS:
            return layout_of(data)
    raise ImageCorruptError(refusal_of(data))


class _WebpSize(NamedTuple):
    """Is all that is needed of a WebP's header."""

    width: int
    height: int


@contextmanager
def _as_corrupt() -> Iterator[None]:
    """Raise ImageCorruptError for every error that a header gives."""
    try:
        yield
    except UnreadableImageError as error:
        raise ImageCorruptError(str(error)) from error
    except (ValueError, struct.error) as error:
        raise ImageCorruptError(f"the image's header cannot be read ({error}); the file is damaged") from error


def decode_image(data: bytes, *, max_pixels: int, memory: Callable[[int], ImageArray] | None = None) -> ImageArray:
    """Return the pixels of ``data`` alone; see decode_picture."""
    return decode_picture(data, max_pixels=max_pixels, memory=memory).image


def decode_picture(
    data: bytes, *, max_pixels: int, memory: Callable[[int], ImageArray] | None = None
) -> DecodedPicture:
    """Decode ``data`` into uint8 (height, width, 3) BGR: grey in all channels, no transparency.

    16 bits of a PNG are cut to 8; more than 8 bits of a TIFF are scaled by the range of the file's values.

    ``memory`` gives a buffer (uint8, one axis) of at least so many bytes for the pixels; without it, and for images
    that are not JPEG, new memory is allocated.

    Raises ImageCorruptError when the image is broken, cut short, or has more than ``max_pixels`` pixels, or takes far
    more work than its size needs; the latter two before anything is decoded.
    """
    header = _header(data, max_pixels)
    width, height = header.width, header.height
    if width <= 0 or height <= 0:
        raise ImageCorruptError(f"the image's header says {width}×{height} pixels; the file is damaged")
    if width * height > max_pixels:
        raise ImageCorruptError(
            f"the image has {width}×{height} pixels, more than detector.max_pixels = {max_pixels}; "
            "raise the setting if memory allows, or send smaller images"
        )
    if isinstance(header, TiffLayout):
        return decode_tiff(header)
    image = _decode(data, header, memory)
    if image.shape != (height, width, 3):
        raise ImageCorruptError(f"the image's header says {width}×{height} pixels, its content is {image.shape}")
    return DecodedPicture(image, None)


def _decode(
    data: bytes, header: JpegFrame | PngHeader | _WebpSize, memory: Callable[[int], ImageArray] | None
) -> ImageArray:
    with _as_corrupt():
        if isinstance(header, JpegFrame):
            return decode_jpeg(data, header, memory)
        if isinstance(header, PngHeader):
            return decode_with_opencv(bounded_png(data, header))
        return decode_with_opencv(data)
