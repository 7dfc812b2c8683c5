"""Decodes JPEG, PNG, TIFF and WebP bytes into uint8 BGR pixels, in the orientation in which they are stored.

An EXIF orientation is not applied: width and height in events come from the image's header, and boxes have to match the
pixels as every other reader of the header counts them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import cv2
import numpy as np
import simplejpeg

from detectors.geometry.arrays import ImageArray
from detectors.tiff.decode import decode_tiff
from infra.errors import ImageCorruptError
from infra.tiff.directory import MAGICS as TIFF_MAGICS
from infra.tiff.layout import layout_of

_FLAGS = cv2.IMREAD_COLOR_BGR | cv2.IMREAD_IGNORE_ORIENTATION
# libjpeg-turbo's colour spaces that have no direct way to BGR.
_FOUR_INKS = ("CMYK", "YCCK")


def image_size(data: bytes) -> tuple[int, int]:
    """Return width and height in pixels from the header of ``data``, without decoding it.

    Raises ImageCorruptError when ``data`` is not JPEG, PNG, TIFF or WebP, or its header is broken.
    """
    try:
        if data[:3] == b"\xff\xd8\xff":
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
            return int(width), int(height)
        if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", data, 16)
            return width, height
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp_size(data)
        if data[:4] in TIFF_MAGICS:
            layout = layout_of(data)
            return layout.width, layout.height
    except (ValueError, struct.error) as error:
        raise ImageCorruptError(f"the image's header cannot be read ({error}); the file is damaged") from error
    raise ImageCorruptError(f"the bytes {data[:8].hex(' ')} … begin no JPEG, PNG, TIFF or WebP image")


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", data, 24)
        return 1 + low_w + (high_w << 16), 1 + low_h + (high_h << 16)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError(f"WebP chunk {kind!r} holds no picture")


def decode_image(data: bytes, *, max_pixels: int, memory: Callable[[int], ImageArray] | None = None) -> ImageArray:
    """Decode ``data`` into uint8 (height, width, 3) BGR: grey in all channels, no transparency. Of
    PNG 16 bits are cut to 8; of TIFF more than 8 bits are scaled by the file's range.

    ``memory`` gives a buffer (uint8, one axis) of at least so many bytes for the pixels; without it, and for images
    that are not JPEG, new memory is allocated.

    Raises ImageCorruptError when the image is broken, cut short, or has more than ``max_pixels`` pixels (which is
    checked before anything is decoded).
    """
    width, height = image_size(data)
    if width <= 0 or height <= 0:
        raise ImageCorruptError(f"the image's header says {width}×{height} pixels; the file is damaged")
    if width * height > max_pixels:
        raise ImageCorruptError(
            f"the image has {width}×{height} pixels, more than detector.max_pixels = {max_pixels}; "
            "raise the setting if memory allows, or send smaller images"
        )
    if data[:4] in TIFF_MAGICS:
        return decode_tiff(data).image
    image = _decode_jpeg(data, width, height, memory) if data[:2] == b"\xff\xd8" else _decode_other(data)
    if image.shape != (height, width, 3):
        raise ImageCorruptError(f"the image's header says {width}×{height} pixels, its content is {image.shape}")
    return image


def _decode_jpeg(data: bytes, width: int, height: int, memory: Callable[[int], ImageArray] | None) -> ImageArray:
    try:
        if simplejpeg.decode_jpeg_header(data)[2] in _FOUR_INKS:
            return _decode_other(data)
        size = width * height * 3
        into = None if memory is None else memory(size)[:size].reshape(height, width, 3)
        image: ImageArray = simplejpeg.decode_jpeg(data, colorspace="BGR", buffer=into)
    except ValueError as error:
        raise ImageCorruptError(f"the JPEG cannot be decoded ({error}); the file is damaged or cut short") from error
    return image


def _decode_other(data: bytes) -> ImageArray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS)
    except cv2.error as error:
        raise ImageCorruptError(f"the image cannot be decoded ({error.err}); the file is damaged") from error
    # imdecode returns None for what it cannot read, although its signature has no None.
    if image is None or image.dtype != np.uint8:
        raise ImageCorruptError("the image cannot be decoded; the file is damaged, cut short, or of an unusual kind")
    return image.astype(np.uint8, copy=False)
