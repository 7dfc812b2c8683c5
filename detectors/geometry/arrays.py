"""Defines the array types of detectors, and the records of arrays: raw boxes, candidates and detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]
IndexArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
ImageArray = npt.NDArray[np.uint8]
Outputs = tuple[FloatArray, ...]
"""The outputs of an engine: float32 arrays, the first axis of each is the tile."""


@dataclass(frozen=True, slots=True, eq=False)
class RawBoxes:
    """Holds what a head read from a batch of tiles, in the order of tiles, then of the model's output. K may be 0."""

    boxes: FloatArray
    """float32 (K, 4) xyxy in pixels of the model's input; of rotated boxes what encloses them"""
    scores: FloatArray
    """float32 (K,) in 0..1"""
    classes: IntArray
    """int32 (K,)"""
    tiles: IntArray
    """int32 (K,), the index within the batch"""
    quads: FloatArray | None = None
    """Of a layout with rotated boxes: float32 (K, 4, 2), the corners x, y in pixels of the model's input, clockwise as
    seen
    """


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Holds the boxes of some tiles of one frame before merging, in the order of tiles, then of outputs. K may be 0."""

    boxes: FloatArray
    """float32 (K, 4) xyxy in frame pixels, inside their tile"""
    scores: FloatArray
    """float32 (K,) in 0..1"""
    classes: IntArray
    """int32 (K,)"""
    tiles: IntArray
    """int32 (K,), the index within the frame's plan"""
    cut: BoolArray
    """bool (K,), true where the box touches an inner edge of its tile, so that it may be a piece of a larger object"""
    quads: FloatArray | None = None
    """Of a model with rotated boxes: float32 (K, 4, 2), the corners x, y in frame pixels, clockwise as seen, clipped to
    neither tile nor frame
    """
    too_large: int = 0
    """How many further boxes were left out because they are larger than their class can be"""

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: IndexArray | BoolArray) -> Candidates:
        """Return the candidates at ``rows`` (indices or a mask), in that order, with ``too_large`` 0."""
        quads = None if self.quads is None else self.quads[rows]
        return Candidates(
            self.boxes[rows], self.scores[rows], self.classes[rows], self.tiles[rows], self.cut[rows], quads
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Candidates]) -> Candidates:
        """Return the candidates of all ``parts`` (any number, also none) of one frame, in order.

        They are of one model, so either all have quads or none has.
        """
        if not parts:
            return cls(
                np.empty((0, 4), np.float32),
                np.empty(0, np.float32),
                np.empty(0, np.int32),
                np.empty(0, np.int32),
                np.empty(0, np.bool_),
            )
        return cls(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.classes for part in parts]),
            np.concatenate([part.tiles for part in parts]),
            np.concatenate([part.cut for part in parts]),
            _joined([part.quads for part in parts]),
            sum(part.too_large for part in parts),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Holds what was found in a frame, best score first. N may be 0."""

    boxes: FloatArray
    """float32 (N, 4) xyxy in frame pixels, inside the frame"""
    scores: FloatArray
    """float32 (N,) in 0..1"""
    classes: IntArray
    """int32 (N,)"""
    quads: FloatArray | None = None
    """Of a model with rotated boxes: float32 (N, 4, 2), the corners x, y in frame pixels, clockwise as seen; they may
    be outside the frame
    """
    too_large: int = 0
    """How many boxes, counted in each tile, were left out because they are larger than their class can be. Many of them
    and few detections mean that the frame's ground sampling distance is wrong.
    """

    def __len__(self) -> int:
        return len(self.scores)


def _joined(parts: Sequence[FloatArray | None]) -> FloatArray | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if present else None
