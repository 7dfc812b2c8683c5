"""Makes a small image for any model: when it succeeds and a frame does not, the frame is the cause."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

_SIDE_PX = 64


def _make_image() -> bytes:
    pixels = np.full((_SIDE_PX, _SIDE_PX, 3), 90, np.uint8)
    pixels[16:48, 16:48] = (40, 120, 200)
    return cv2.imencode(".png", pixels)[1].tobytes()


PROOF_IMAGE: Final = _make_image()
"""The encoded bytes, like those of a frame."""
