"""Cuts a square window of any side from a picture and scales it to a crop, with its boxes."""

from dataclasses import dataclass

import cv2
import numpy as np

from training.crops import Crop, cut_boxes
from training.scenes.spec import Boxes, Image, Labels

PADDING = 114
"""The grey value beyond the picture, as the letterbox of the card has it."""


@dataclass(frozen=True, eq=False)
class Picture:
    """Holds what crops are cut from: image (H, W, 3) uint8 BGR, boxes (N, 4) xyxy pixels, labels (N,) with IGNORED."""

    image: Image
    boxes: Boxes
    labels: Labels


@dataclass(frozen=True)
class Window:
    """Says where to cut, in pixels of the picture; `aspect` stretches the window, 1.1 is a tenth wider and lower."""

    left: float
    top: float
    side: float
    aspect: float = 1.0

    def moved_inside(self, picture: Picture) -> "Window":
        """Return the window moved into the picture on each axis where it fits."""
        height, width = picture.image.shape[:2]
        across, down = self.side * self.aspect, self.side / self.aspect
        left = min(max(self.left, 0.0), width - across) if across <= width else self.left
        top = min(max(self.top, 0.0), height - down) if down <= height else self.top
        return Window(left, top, self.side, self.aspect)


def random_window(picture: Picture, side: float, rng: np.random.Generator) -> Window:
    """Return a window anywhere on the picture."""
    height, width = picture.image.shape[:2]
    return Window(rng.uniform(0, max(1.0, width - side)), rng.uniform(0, max(1.0, height - side)), side)


def window_with(box: Boxes, side: float, rng: np.random.Generator, aspect: float = 1.0) -> Window:
    """Return a window that shows the centre of a box, xyxy, somewhere."""
    middle = (box[:2] + box[2:]) / 2
    left, top = middle - rng.uniform(0.02, 0.98, 2) * side
    return Window(float(left), float(top), side, aspect)


def cut_window(picture: Picture, window: Window, size: int, smooth: bool = True) -> Crop:
    """Cut a window and scale it to `size` pixels; what lies beyond the picture is grey.

    Where it must enlarge, `smooth` takes cubic instead of linear interpolation.
    """
    height, width = picture.image.shape[:2]
    x0, y0 = round(window.left), round(window.top)
    x1 = max(x0 + 1, round(window.left + window.side * window.aspect))
    y1 = max(y0 + 1, round(window.top + window.side / window.aspect))
    scale_x, scale_y = size / (x1 - x0), size / (y1 - y0)
    left, top, right, bottom = max(0, x0), max(0, y0), min(width, x1), min(height, y1)
    image = np.full((size, size, 3), PADDING, np.uint8)
    if right > left and bottom > top:
        enlarging = cv2.INTER_CUBIC if smooth else cv2.INTER_LINEAR
        piece = cv2.resize(
            picture.image[top:bottom, left:right],
            (max(1, round((right - left) * scale_x)), max(1, round((bottom - top) * scale_y))),
            interpolation=cv2.INTER_AREA if scale_x < 1 else enlarging,
        )
        from_x, from_y = min(round((left - x0) * scale_x), size - 1), min(round((top - y0) * scale_y), size - 1)
        piece = piece[: size - from_y, : size - from_x]
        image[from_y : from_y + piece.shape[0], from_x : from_x + piece.shape[1]] = piece
    scale = np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
    moved = (picture.boxes - np.array([x0, y0, x0, y0], np.float32)) * scale
    return Crop(image, *cut_boxes(moved, picture.labels, size))
