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
"""What an engine answers: float32 arrays, the first axis of each is the tile."""


@dataclass(frozen=True, slots=True, eq=False)
class RawBoxes:
    """What a head reads from a batch of tiles, in the order tile, then place in the model's output.

    boxes: float32 (K, 4) xyxy in pixels of the model's input; scores: float32 (K,) in 0..1; classes: int32 (K,);
    tiles: int32 (K,), the index within the batch; quads: of a layout with rotated boxes float32 (K, 4, 2), the corners
    x, y in pixels of the model's input, clockwise as seen, and boxes are what encloses them; else None. K may be 0.
    """

    boxes: FloatArray
    scores: FloatArray
    classes: IntArray
    tiles: IntArray
    quads: FloatArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Boxes of some tiles of one frame before tiles are merged, in the order tile, then place in the model's output.

    boxes: float32 (K, 4) xyxy in frame pixels, inside their tile; scores: float32 (K,) in 0..1; classes: int32 (K,);
    tiles: int32 (K,), the index within the frame's plan; cut: bool (K,), true where the box touches an inner edge of
    its tile, so that it may be a fragment of something larger; quads: of a model with rotated boxes float32 (K, 4, 2),
    the corners x, y in frame pixels, clockwise as seen, which may leave tile and frame; else None. K may be 0.
    too_large: how many more there were, left out for being larger than their class can be.
    """

    boxes: FloatArray
    scores: FloatArray
    classes: IntArray
    tiles: IntArray
    cut: BoolArray
    quads: FloatArray | None = None
    too_large: int = 0

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: IndexArray | BoolArray) -> Candidates:
        """The candidates at ``rows`` (indices or a mask), in that order; what was left out is none of theirs."""
        quads = None if self.quads is None else self.quads[rows]
        return Candidates(
            self.boxes[rows], self.scores[rows], self.classes[rows], self.tiles[rows], self.cut[rows], quads
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Candidates]) -> Candidates:
        """The candidates of all ``parts`` (any number, also none) of one frame, one after the other.

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
    """What was found in a frame, best score first.

    boxes: float32 (N, 4) xyxy in frame pixels, inside the frame; scores: float32 (N,) in 0..1; classes: int32 (N,);
    quads: of a model with rotated boxes float32 (N, 4, 2), the corners x, y in frame pixels, clockwise as seen, which
    may leave the frame; else None. N may be 0. too_large: how many boxes, those of each tile by itself, were left out
    for being larger than their class can be; many of them where little was found mean that the frame's ground sampling
    distance is wrong.
    """

    boxes: FloatArray
    scores: FloatArray
    classes: IntArray
    quads: FloatArray | None = None
    too_large: int = 0

    def __len__(self) -> int:
        return len(self.scores)


def _joined(parts: Sequence[FloatArray | None]) -> FloatArray | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if present else None
