"""Draws the result of one frame of a demonstration into a picture file, for a person to look at."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from detectors.card.card import ClassCard
from detectors.geometry.arrays import Detections
from detectors.images.decode import decode_image
from detectors.images.draw import draw_detections
from schemas.events import DetectionsMade

_QUALITY = 90


def best_frame(events: Iterable[DetectionsMade], classes: Iterable[ClassCard]) -> DetectionsMade | None:
    """Return the event with the most detections; None if no frame has any.

    Detections of classes that were tested on photographs count first. Of equals it is the first event.
    """
    trusted = {each.name for each in classes if each.evidence == "photographs"}

    def rank(event: DetectionsMade) -> tuple[int, int]:
        return sum(each.label in trusted for each in event.detections), len(event.detections)

    best = max(events, key=rank, default=None)
    return best if best is not None and best.detections else None


def draw_result(path: Path, data: bytes, event: DetectionsMade, classes: Iterable[ClassCard], max_pixels: int) -> None:
    """Write the encoded picture ``data`` with the boxes, labels and scores of ``event`` to ``path`` (JPEG)."""
    image = decode_image(data, max_pixels=max_pixels)
    known = {each.name: each for each in classes}
    # Labels of another model version than the card's get a colour of their own.
    shown = [*known.values(), *(ClassCard(name=label) for label in _labels(event) if label not in known)]
    places = {each.name: place for place, each in enumerate(shown)}
    height, width = image.shape[:2]
    found = event.detections
    boxes = np.array([[each.box.x1, each.box.y1, each.box.x2, each.box.y2] for each in found], np.float32)
    corners = [[(point.x, point.y) for point in each.corners] for each in found if each.corners is not None]
    detections = Detections(
        boxes * np.array([width, height, width, height], np.float32),
        np.array([each.confidence for each in found], np.float32),
        np.array([places[each.label] for each in found], np.int32),
        np.array(corners, np.float32) * np.array([width, height], np.float32) if len(corners) == len(found) else None,
    )
    drawn = draw_detections(image, detections, shown)
    encoded, content = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not encoded:
        raise ValueError(f"OpenCV could not encode an image of shape {drawn.shape}")
    path.write_bytes(content.tobytes())


def _labels(event: DetectionsMade) -> list[str]:
    return list(dict.fromkeys(each.label for each in event.detections))
