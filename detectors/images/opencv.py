"""Decodes pictures with OpenCV, and says in one kind of error why one cannot be decoded."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from detectors.geometry.arrays import ImageArray
from infra.errors import ImageCorruptError

_FLAGS: Final = cv2.IMREAD_COLOR_BGR | cv2.IMREAD_IGNORE_ORIENTATION


def decode_with_opencv(data: bytes) -> ImageArray:
    """Decode ``data`` into uint8 (height, width, 3) BGR, as it is stored. Raises ImageCorruptError."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS)
    except cv2.error as error:
        raise ImageCorruptError(f"the image cannot be decoded ({error.err}); the file is damaged") from error
    # imdecode returns None for what it cannot read, although its signature has no None.
    if image is None or image.dtype != np.uint8:
        raise ImageCorruptError("the image cannot be decoded; the file is damaged, cut short, or of an unusual kind")
    return image.astype(np.uint8, copy=False)
