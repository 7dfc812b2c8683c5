"""Computes where in the input each anchor of an anchor-free detector is."""

from __future__ import annotations

import numpy as np

from detectors.geometry.arrays import FloatArray

STRIDES = (8, 16, 32)
_ALL_STRIDES = (4, 8, 16, 32, 64)


def anchor_count(width: int, height: int) -> int:
    """Return how many anchors a model with strides 8, 16 and 32 has for an input of ``width`` × ``height`` pixels."""
    return sum((width // stride) * (height // stride) for stride in STRIDES)


def pyramid_counts(width: int, height: int) -> tuple[int, ...]:
    """Return the anchor counts of models with other strides, for smaller or larger objects; the usual one first."""
    cells = [(width // stride) * (height // stride) for stride in _ALL_STRIDES]
    runs = {sum(cells[low:high]) for low in range(len(cells)) for high in range(low + 1, len(cells) + 1)}
    usual = anchor_count(width, height)
    return (usual, *sorted(runs - {usual}))


def grid(width: int, height: int) -> FloatArray:
    """Return float32 (A, 3): column, row and stride of each anchor, stride by stride, row by row."""
    parts = []
    for stride in STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        strides = np.full(rows.size, stride)
        parts.append(np.stack((columns.ravel(), rows.ravel(), strides), axis=1))
    return np.concatenate(parts).astype(np.float32)


def boxes_from_centres(centres: FloatArray, sizes: FloatArray) -> FloatArray:
    """Return float32 (K, 4) xyxy: the boxes of ``centres`` (K, 2) and ``sizes`` (K, 2)."""
    return np.concatenate((centres - sizes / 2, centres + sizes / 2), axis=1)
