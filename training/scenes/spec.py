"""Defines size, seed and density of a scene to draw, and the drawn scene: its picture, true boxes and classes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.errors import StandgaleError

CLASS_NAMES: tuple[str, ...] = ("vehicle", "boat", "person", "bird")
VEHICLE, BOAT, PERSON, BIRD = range(4)

MIN_OBJECT_PX = 8.0
MAX_OBJECT_PX = 80.0

Image = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Boxes = NDArray[np.float32]
Labels = NDArray[np.int64]


class SceneSpecError(StandgaleError):
    """Says that a requested scene cannot be drawn."""


@dataclass(frozen=True)
class SceneSpec:
    """Requests one scene; the same spec gives the same bytes.

    width and height are pixels (at least 64), seed is not negative, density multiplies the usual number of objects.
    Raises SceneSpecError when a value is out of range.
    """

    width: int
    height: int
    seed: int
    density: float = 1.0

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 64:
            raise SceneSpecError(
                f"scene size {self.width}x{self.height} is too small: give width and height of at least 64 pixels"
            )
        if self.seed < 0:
            raise SceneSpecError(f"scene seed {self.seed} is negative: give a seed of 0 or more")
        if not 0.0 <= self.density <= 20.0:
            raise SceneSpecError(f"scene density {self.density} is out of range: give a value from 0 to 20")


@dataclass(frozen=True, eq=False)
class Scene:
    """Holds a drawn scene.

    image is (H, W, 3) uint8 BGR, boxes (N, 4) float32 xyxy in pixels, labels (N,) int64 indices into CLASS_NAMES.
    """

    image: Image
    boxes: Boxes
    labels: Labels
    spec: SceneSpec
