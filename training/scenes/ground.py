"""Holds the ground of a scene, and the tools that paint it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from training.scenes import textures
from training.scenes.spec import Image, Mask

OPEN, WATER, ROAD, BUILDING, TREE = range(5)

Colour = tuple[float, float, float]
Points = NDArray[np.float64]

_BLOCK = 256


@dataclass(frozen=True)
class Sun:
    """Says where shadows fall: unit vector in the picture, and shadow length per height."""

    dx: float
    dy: float
    reach: float
    strength: float


@dataclass(frozen=True)
class Slot:
    """Marks a place that suits an object: position in pixels, heading in radians."""

    x: float
    y: float
    heading: float


@dataclass
class Ground:
    """Holds a scene while it is drawn.

    image is (H, W, 3) uint8 BGR, kind (H, W) uint8 of the constants above, metre the pixels per metre.
    """

    image: Image
    kind: Mask
    rng: np.random.Generator
    sun: Sun
    metre: float
    lanes: list[Slot] = field(default_factory=list)
    parking: list[Slot] = field(default_factory=list)
    moorings: list[Slot] = field(default_factory=list)

    @property
    def height(self) -> int:
        """Rows of the picture."""
        return int(self.image.shape[0])

    @property
    def width(self) -> int:
        """Columns of the picture."""
        return int(self.image.shape[1])


def vary(rng: np.random.Generator, base: Colour, spread: float = 0.12) -> Colour:
    """Return a colour near `base`: common brightness and a little hue change."""
    light = float(rng.uniform(1 - spread, 1 + spread))
    b, g, r = (float(np.clip(c * light * rng.uniform(1 - spread / 6, 1 + spread / 6), 0, 255)) for c in base)
    return b, g, r


def rectangle(x: float, y: float, length: float, breadth: float, angle: float) -> Points:
    """Return the corners (4, 2) of a turned rectangle about its centre."""
    cos, sin = np.cos(angle), np.sin(angle)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float64) * (length / 2, breadth / 2)
    return np.asarray(corners @ np.array([[cos, sin], [-sin, cos]]) + (x, y), np.float64)


def paint_polygon(
    ground: Ground,
    corners: Points,
    texture: str,
    base: Colour,
    *,
    amplitude: float,
    angle: float = 0.0,
    kind: int | None = None,
) -> None:
    """Fill a polygon with a texture around `base`, and mark its kind if given."""
    low = np.floor(corners.min(axis=0)).astype(int).clip(0)
    high = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 1, (ground.width, ground.height))
    if (high - low).min() < 1:
        return
    window = (slice(low[1], high[1]), slice(low[0], high[0]))
    mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    cv2.fillPoly(mask, [np.round(corners - low).astype(np.int32)], 255)
    zoom = float(ground.rng.uniform(0.8, 1.5))
    grey = textures.TexturePlacement.at_random(texture, ground.rng, angle_rad=angle, zoom=zoom).cut(
        mask.shape[0], mask.shape[1]
    )
    textures.blend_mask(ground.image[window], textures.colour(grey, base, amplitude), mask)
    if kind is not None:
        ground.kind[window][mask > 0] = kind


def blocks(ground: Ground) -> Iterator[tuple[slice, slice]]:
    """Yield windows that cover the picture; work is saved because most masks are empty in most windows."""
    for top in range(0, ground.height, _BLOCK):
        for left in range(0, ground.width, _BLOCK):
            yield slice(top, min(top + _BLOCK, ground.height)), slice(left, min(left + _BLOCK, ground.width))


def paint_mask(
    ground: Ground,
    mask: Mask,
    texture: str,
    base: Colour,
    *,
    amplitude: float,
    hue: float = 0.0,
    zoom: float = 1.0,
    kind: int | None = None,
) -> None:
    """Fill a full-size mask with a texture around `base`, and mark its kind if given."""
    lay = textures.TexturePlacement.at_random(texture, ground.rng, zoom=zoom)
    for window in blocks(ground):
        part = mask[window]
        if not part.any():
            continue
        grey = lay.cut(part.shape[0], part.shape[1], left=window[1].start, top=window[0].start)
        textures.blend_mask(ground.image[window], textures.colour(grey, base, amplitude, hue), part)
        if kind is not None:
            ground.kind[window][part > 0] = kind


def darken(image: Image, mask: Mask, strength: float) -> None:
    """Shade image, (H, W, 3), by up to strength (0 to 1) as mask (0 to 255) gives."""
    if mask.any():
        keep = 1.0 - strength * (mask.astype(np.float32) / 255.0)
        image[:] = (image * keep[:, :, None]).astype(np.uint8)


def cast_shadow(ground: Ground, corners: Points, height_px: float) -> None:
    """Shade the ground next to an upright block whose outline is `corners`; water and ground alike."""
    shift = np.array([ground.sun.dx, ground.sun.dy]) * ground.sun.reach * height_px
    outline = cv2.convexHull(np.concatenate([corners, corners + shift]).astype(np.float32)).reshape(-1, 2)
    low = np.floor(outline.min(axis=0)).astype(int).clip(0)
    high = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 1, (ground.width, ground.height))
    if (high - low).min() < 1:
        return
    mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    cv2.fillPoly(mask, [np.round(outline - low).astype(np.int32)], 255)
    darken(ground.image[low[1] : high[1], low[0] : high[0]], mask, ground.sun.strength)
