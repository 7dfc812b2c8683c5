"""A small picture that any model can be tried on: when it passes and a frame does not, the frame is at fault."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

_SIDE_PX = 64


def _picture() -> bytes:
    pixels = np.full((_SIDE_PX, _SIDE_PX, 3), 90, np.uint8)
    pixels[16:48, 16:48] = (40, 120, 200)
    return cv2.imencode(".png", pixels)[1].tobytes()


PROOF_IMAGE: Final = _picture()
"""Encoded bytes, as a frame's are."""
