"""Draws boxes, upright or rotated, and their labels on a copy of an image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from detectors.card.card import ClassCard
from detectors.geometry.arrays import Detections, ImageArray

_FONT = cv2.FONT_HERSHEY_SIMPLEX
# Hue steps by the golden angle (in OpenCV's half degrees), so that neighbouring classes differ.
_HUE_STEP = 68.75


def class_colour(index: int, card: ClassCard) -> tuple[int, int, int]:
    """Return the BGR colour (0..255) of class ``index``: the card's, or one from a fixed colour wheel."""
    if card.color is not None:
        red, green, blue = bytes.fromhex(card.color[1:])
        return blue, green, red
    pixel = np.array([[[index * _HUE_STEP % 180, 200, 255]]]).astype(np.uint8)
    blue, green, red = cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return blue, green, red


def draw_detections(
    image: ImageArray,
    detections: Detections,
    classes: Sequence[ClassCard],
    *,
    labels: bool = True,
    scores: bool = True,
) -> ImageArray:
    """Return a copy of ``image`` (uint8 (h, w, 3) BGR) with ``detections`` (frame pixels) drawn, the best one last.

    Lines and text grow with the picture. ``classes`` are the card's, by class number; ``labels`` and ``scores`` say
    what is written beside each box.
    """
    canvas = image.copy()
    line = max(1, round(max(image.shape[:2]) / 1000))
    for place in reversed(range(len(detections))):
        index, score = int(detections.classes[place]), float(detections.scores[place])
        colour = class_colour(index, classes[index])
        left, top, right, bottom = (round(value) for value in detections.boxes[place].tolist())
        if detections.quads is None:
            cv2.rectangle(canvas, (left, top), (right, bottom), colour, line, cv2.LINE_AA)
        else:
            corners = np.round(detections.quads[place]).astype(np.int32)
            cv2.polylines(canvas, [corners], True, colour, line, cv2.LINE_AA)
        text = " ".join([classes[index].name] * labels + [f"{score:.2f}"] * scores)
        if text:
            _draw_label(canvas, text, (left, top, bottom), colour, line)
    return canvas


def _draw_label(
    canvas: ImageArray, text: str, at: tuple[int, int, int], colour: tuple[int, int, int], line: int
) -> None:
    """Write ``text`` on a plate above the box whose left, top and bottom are ``at``; under it if there is no room."""
    left, top, bottom = at
    scale = 0.4 + 0.1 * line
    (width, height), base = cv2.getTextSize(text, _FONT, scale, line)
    plate = height + base + line
    upper = top - plate if top >= plate else min(bottom, canvas.shape[0] - plate)
    left = max(0, min(left, canvas.shape[1] - width))
    cv2.rectangle(canvas, (left, upper), (left + width, upper + plate), colour, cv2.FILLED)
    # Dark text on light plates, light text on dark ones (luma of BGR).
    luma = 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2]
    ink = (0, 0, 0) if luma > 140 else (255, 255, 255)
    cv2.putText(canvas, text, (left, upper + height + line), _FONT, scale, ink, line, cv2.LINE_AA)
