"""Scales a picture into the model's input, by default without changing its shape, and pads the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2

from detectors.geometry.arrays import ImageArray

Anchor = Literal["center", "top_left", "stretch"]
"""Where the picture is in the model's input: Ultralytics centres it, YOLOX puts it into the top left corner, RT-DETR
and RF-DETR stretch it over all of the input, so that its shape changes."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Says where a picture is in the model's input: its corner and its size in whole pixels of the input."""

    left: int
    top: int
    width: int
    height: int


def place(size: tuple[int, int], within: tuple[int, int], scale: float, anchor: Anchor) -> Placement:
    """Return where a picture of ``size`` (width, height) is in an input of size ``within`` after scaling by ``scale``.

    The size is made whole pixels per axis (at least 1, at most the input), so the true scale of an axis is
    ``placement.width / width``: to map boxes back, use that, not ``scale``. In the centre it is rounded, as Ultralytics
    does; at the top left it is cut off, as YOLOX does. When the padding is odd, the larger half is on the right and at
    the bottom. ``stretch`` fills the input, with any ``scale``.
    """
    if anchor == "stretch":
        return Placement(0, 0, *within)
    whole = int if anchor == "top_left" else round
    width = min(within[0], max(1, whole(size[0] * scale)))
    height = min(within[1], max(1, whole(size[1] * scale)))
    if anchor == "top_left":
        return Placement(0, 0, width, height)
    return Placement((within[0] - width) // 2, (within[1] - height) // 2, width, height)


def letterbox_into(out: ImageArray, picture: ImageArray, at: Placement, pad: int, averaged: bool = False) -> None:
    """Write ``picture`` (uint8 (h, w, 3)) into ``out`` (uint8 (H, W, 3)) at ``at`` and ``pad`` everywhere else.

    Scaling is bilinear, as the models saw it in training, or with ``averaged`` the mean of all pixels that become one,
    so that reducing makes no patterns. A picture that has the right size is copied as it is.
    """
    bottom, right = at.top + at.height, at.left + at.width
    out[: at.top] = pad
    out[bottom:] = pad
    out[at.top : bottom, : at.left] = pad
    out[at.top : bottom, right:] = pad
    target = out[at.top : bottom, at.left : right]
    if picture.shape == target.shape:
        target[...] = picture
    else:
        how = cv2.INTER_AREA if averaged else cv2.INTER_LINEAR
        cv2.resize(picture, (at.width, at.height), dst=target, interpolation=how)
