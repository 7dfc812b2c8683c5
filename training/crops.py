"""Defines the crops of a training: their boxes, what a cut leaves of a box, and how a crop is varied."""

from dataclasses import dataclass

import numpy as np

from detectors.geometry.boxes import longer_sides
from training.scenes.spec import Boxes, Image, Labels

# Objects of which a crop shows less than the first share are dropped; between the two they are neither right nor wrong.
_DROP_BELOW = 0.15
_IGNORE_BELOW = 0.45
# What is smaller than this in the crop can be told from nothing.
_SMALLEST_PX = 7.0

IGNORED = -1
"""The class of a region in which nothing is judged."""


@dataclass(frozen=True, eq=False)
class Crop:
    """Holds a crop: image (S, S, 3) uint8 BGR, boxes (N, 4) xyxy pixels, labels (N,), IGNORED where cut too far."""

    image: Image
    boxes: Boxes
    labels: Labels


def cut_boxes(boxes: Boxes, labels: Labels, size: int) -> tuple[Boxes, Labels]:
    """Return the boxes, xyxy in pixels of a square crop, as the crop shows them.

    Those cut too far or too small are labelled IGNORED or dropped; regions to ignore stay, however little is seen.
    """
    clipped = boxes.clip(0, size).astype(np.float32)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    share = np.prod((clipped[:, 2:] - clipped[:, :2]).clip(0), axis=1) / np.maximum(area, 1e-6)
    kept = np.where(labels == IGNORED, share > 0, share >= _DROP_BELOW)
    judged = (share >= _IGNORE_BELOW) & (longer_sides(boxes) >= _SMALLEST_PX)
    return clipped[kept], np.where(judged, labels, IGNORED)[kept]


def augment(crop: Crop, rng: np.random.Generator) -> Crop:
    """Mirror and turn a crop, and change its light and colour balance, at random."""
    image, boxes, size = crop.image, crop.boxes, crop.image.shape[0]
    if rng.random() < 0.5:
        image = image[:, ::-1]
        boxes = np.stack([size - boxes[:, 2], boxes[:, 1], size - boxes[:, 0], boxes[:, 3]], axis=1)
    for _ in range(int(rng.integers(4))):
        image = np.rot90(image)
        boxes = np.stack([boxes[:, 1], size - boxes[:, 2], boxes[:, 3], size - boxes[:, 0]], axis=1)
    if rng.random() < 0.5:
        gain = rng.uniform(0.8, 1.2) * rng.uniform(0.93, 1.07, 3)
        levels = np.clip(np.arange(256)[:, None] * gain + rng.uniform(-12, 12), 0, 255).astype(np.uint8)
        image = np.stack([levels[:, channel][image[:, :, channel]] for channel in range(3)], axis=2)
    return Crop(np.ascontiguousarray(image), boxes.astype(np.float32), crop.labels)
