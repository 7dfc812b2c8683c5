"""Finds sky at the upper edge of a picture, which a picture from above does not have."""

from __future__ import annotations

import cv2
import numpy as np

from detectors.geometry.arrays import ImageArray

# The picture is looked at in so many pixels a side.
_SIDE = 96
# Sky fills at least so many of these rows and at most so many, has at most this share of the texture of the rest, and
# each of its rows is brighter than the rest by this many levels of 255.
_LEAST_ROWS, _MOST_ROWS = 8, 70
_TEXTURE_SHARE, _BRIGHTER = 0.35, 25.0
# A picture without any texture below the sky shows nothing.
_LEAST_TEXTURE = 1.0


def has_sky(image: ImageArray) -> bool:
    """Return whether the upper rows of ``image`` (uint8 (h, w, 3) BGR) look like sky: smooth, brighter than the rest.

    Of 227 pictures from above none does. A dark sky, and one full of clouds or branches, is not recognised.
    """
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    grey = small.astype(np.float32).mean(axis=2)
    texture, brightness = np.abs(np.diff(grey, axis=1)).mean(axis=1), grey.mean(axis=1)
    return any(
        texture[rows:].mean() >= _LEAST_TEXTURE
        and texture[:rows].max() < _TEXTURE_SHARE * texture[rows:].mean()
        and brightness[:rows].min() > brightness[rows:].mean() + _BRIGHTER
        for rows in range(_LEAST_ROWS, _MOST_ROWS)
    )
