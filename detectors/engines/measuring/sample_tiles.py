"""Draws tiles for measuring engines: ground, roads, water and small objects, so that a model finds something."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from detectors.geometry.arrays import ImageArray

_GROUNDS_BGR = ((70, 110, 95), (95, 125, 135), (60, 95, 60), (120, 130, 135))
_OBJECTS_BGR = ((225, 225, 225), (45, 45, 50), (40, 40, 180), (160, 90, 40), (60, 170, 200), (150, 150, 155))
_ROAD_BGR, _WATER_BGR = (95, 95, 95), (110, 80, 40)
# Sides of objects in pixels, as in aerial imagery; about as many of each size.
_LENGTHS_PX = (8, 14, 22, 34, 60)
_OBJECTS_PER_TILE = 25


def sample_tiles(width: int, height: int, count: int) -> ImageArray:
    """Return ``count`` different tiles, the same in every process: uint8 (count, height, width, 3) BGR."""
    return np.stack([_tile(np.random.default_rng(seed), width, height) for seed in range(count)])


def _tile(rng: np.random.Generator, width: int, height: int) -> ImageArray:
    tile = _ground(rng, width, height)
    if rng.random() < 0.4:
        middle = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.ellipse(tile, (middle, (width * 0.9, height * 0.5), float(rng.uniform(0, 180))), _WATER_BGR, -1)
    start, end = (0, int(rng.integers(height))), (width - 1, int(rng.integers(height)))
    cv2.line(tile, start, end, _ROAD_BGR, max(8, width // 16), cv2.LINE_AA)
    for _ in range(_OBJECTS_PER_TILE):
        _draw_object(rng, tile)
    grain = rng.normal(0.0, 6.0, tile.shape)
    return np.clip(cv2.GaussianBlur(tile, (3, 3), 0.7) + grain, 0, 255).astype(np.uint8)


def _ground(rng: np.random.Generator, width: int, height: int) -> ImageArray:
    """Return ground whose colour changes slowly, in patches of some tens of pixels."""
    base = np.array(_GROUNDS_BGR[rng.integers(len(_GROUNDS_BGR))], np.float32)
    patches = rng.normal(0.0, 16.0, (max(2, height // 24), max(2, width // 24), 1)).astype(np.float32)
    light = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
    ground: ImageArray = np.clip(base + light[:, :, None], 0, 255).astype(np.uint8)
    return ground


def _draw_object(rng: np.random.Generator, tile: ImageArray) -> None:
    """Draw a body with a shadow; a large one also has a darker window."""
    height, width = tile.shape[:2]
    middle = (float(rng.uniform(0, width)), float(rng.uniform(0, height)))
    length, turn = float(rng.choice(_LENGTHS_PX)), float(rng.uniform(0, 180))
    sides = (length, length * float(rng.uniform(0.4, 0.6)))
    _fill(tile, (middle[0] + length / 8, middle[1] + length / 8), sides, turn, (35, 35, 35))
    _fill(tile, middle, sides, turn, _OBJECTS_BGR[rng.integers(len(_OBJECTS_BGR))])
    if length > 16:
        _fill(tile, middle, (length / 4, sides[1] * 0.8), turn, (30, 30, 30))


def _fill(
    tile: ImageArray,
    middle: tuple[float, float],
    sides: tuple[float, float],
    turn: float,
    colour: Sequence[int],
) -> None:
    corners = cv2.boxPoints((middle, sides, turn))
    cv2.fillConvexPoly(tile, np.rint(corners).astype(np.int32), tuple(colour), cv2.LINE_AA)
