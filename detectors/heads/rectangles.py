"""Converts rotated boxes from centre, size and angle to corners, for all heads of rotated boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from detectors.errors import InferenceError
from detectors.geometry.arrays import FloatArray, IntArray, Outputs, RawBoxes
from detectors.geometry.rotated_boxes import corners_of, enclosing


@dataclass(frozen=True, slots=True, eq=False)
class Rectangles:
    """Holds rotated boxes as a model gives them.

    scores, classes, tiles: as in :class:`detectors.geometry.arrays.RawBoxes`.
    """

    centres: FloatArray
    """float32 (K, 2): x, y in pixels of the model's input"""
    sizes: FloatArray
    """float32 (K, 2): width, height in pixels of the model's input"""
    angles: FloatArray
    """float32 (K,), radians, as :func:`detectors.geometry.rotated_boxes.corners_of` defines them"""
    scores: FloatArray
    classes: IntArray
    tiles: IntArray


@runtime_checkable
class RotatedHead(Protocol):
    """Reads rotated boxes, and can give them before they become corners."""

    def rectangles(self, outputs: Outputs, confidence: float) -> Rectangles:
        """Return the boxes that ``decode`` converts; raises the same errors."""
        ...


def raw_boxes(found: Rectangles) -> RawBoxes:
    """Return ``found`` as corners and enclosing boxes, without those that have no area.

    Raises InferenceError when a number is not finite, because its corners would reach people.
    """
    solid = (found.sizes > 0).all(axis=1)
    quads = corners_of(found.centres[solid], found.sizes[solid], found.angles[solid])
    if not np.isfinite(quads).all():
        raise InferenceError(
            "the model's rotated boxes or their angles are infinite: its file is damaged, or the precision is too low "
            "for it; try precision f32 in the card, or another engine"
        )
    return RawBoxes(enclosing(quads), found.scores[solid], found.classes[solid], found.tiles[solid], quads)
