"""Decodes JPEG as every other program does, also with warnings, but no file of which a part is missing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import numpy as np
import simplejpeg

from detectors.geometry.arrays import ImageArray
from detectors.images.opencv import decode_with_opencv
from infra.errors import ImageCorruptError
from infra.images.jpeg import JpegFrame

# What libjpeg gives where it has no data.
_NO_DATA: Final = 128
_FOUR_INKS: Final = 4
# Warnings about files of which nothing is missing.
_HARMLESS: Final = re.compile("extraneous bytes|JFIF|Adobe|Exif|thumbnail", re.IGNORECASE)


def decode_jpeg(data: bytes, frame: JpegFrame, memory: Callable[[int], ImageArray] | None) -> ImageArray:
    """Decode ``data``, whose header is ``frame``, into uint8 (height, width, 3) BGR; ``memory`` gives the buffer.

    Warnings of the decoder (stray bytes, a restart marker that is missing, an odd revision) are no errors. Raises
    ImageCorruptError if it cannot be decoded, or its lower part has no data.
    """
    if frame.components == _FOUR_INKS:
        return decode_with_opencv(data)
    size = frame.width * frame.height * 3
    taken = np.empty(size, np.uint8) if memory is None else memory(size)[:size]
    into = taken.reshape(frame.height, frame.width, 3)
    # After a warning the decoder does not report that it gave up; what it has not written is recognised by that.
    into[:, -1] = _NO_DATA
    try:
        image: ImageArray = simplejpeg.decode_jpeg(data, colorspace="BGR", buffer=into, strict=False)
    except ValueError as error:
        return _decode_otherwise(data, error)
    if image.shape == (frame.height, frame.width, 3) and _ends_without_data(image):
        _require_all_data(data, image)
    return image


def _decode_otherwise(data: bytes, error: ValueError) -> ImageArray:
    """Decode with OpenCV: simplejpeg refuses unusual sampling, and takes a warning about a header for an error."""
    try:
        image = decode_with_opencv(data)
    except ImageCorruptError:
        raise ImageCorruptError(f"the JPEG cannot be decoded ({error}); the file is damaged or cut short") from error
    if _ends_without_data(image):
        _require_all_data(data, image)
    return image


def _ends_without_data(image: ImageArray) -> bool:
    return bool((image[-1, -1] == _NO_DATA).all())


def _require_all_data(data: bytes, image: ImageArray) -> None:
    """Raise ImageCorruptError unless the grey at the end of ``image`` is a part of the picture."""
    try:
        simplejpeg.decode_jpeg(data, colorspace="BGR")
    except ValueError as error:
        if _HARMLESS.search(str(error)):
            return
        grey = (image[:, -1] == _NO_DATA).all(axis=1)
        missing = len(grey) if bool(grey.all()) else int(np.argmin(grey[::-1]))
        raise ImageCorruptError(
            f"the JPEG is cut short: the lower {missing} of its {len(grey)} rows have no or not all data ({error}); "
            "send the file again, or look at the camera's card"
        ) from error
