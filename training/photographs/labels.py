"""Reads the labels of one picture: a line per object with class, centre, width and height as shares of the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.errors import StandgaleError
from training.crops import IGNORED
from training.metrics import Floats, Ints

_MOST_LINES = 20_000
# How far a box may reach beyond its picture, as a share of its sides; labellers do not stop at the last pixel.
_BEYOND = 0.05


class LabelsError(StandgaleError):
    """Says which line of a label file is wrong."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Holds the labels of one picture: shares (N, 4) float64 xyxy within 0..1, classes (N,)."""

    shares: NDArray[np.float64]
    classes: Ints

    @classmethod
    def none(cls) -> Labels:
        """Return the labels of a picture that has none."""
        return cls(np.zeros((0, 4)), np.zeros(0, np.int64))

    def _pixels(self, chosen: NDArray[np.bool_], width: int, height: int) -> Floats:
        scaled: Floats = (self.shares[chosen] * np.array((width, height, width, height))).astype(np.float32)
        return scaled

    def boxes(self, width: int, height: int) -> tuple[Floats, Ints]:
        """Return the objects in a picture of that size: float32 (N, 4) xyxy pixels, and their classes (N,)."""
        objects = self.classes != IGNORED
        return self._pixels(objects, width, height), self.classes[objects]

    def ignored(self, width: int, height: int) -> Floats:
        """Return the regions in which nothing is judged: float32 (K, 4) xyxy pixels."""
        return self._pixels(self.classes == IGNORED, width, height)


def read_labels(text: str, classes: int) -> Labels:
    """Read labels of ``classes`` classes. Raises LabelsError, which begins with the number of the line."""
    lines = text.splitlines()
    if len(lines) > _MOST_LINES:
        raise LabelsError(f"line {_MOST_LINES + 1}: a picture may have {_MOST_LINES} lines at most")
    rows = [_row(number, line, classes) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        return Labels.none()
    numbers = np.array([row[1:] for row in rows], np.float64)
    half = numbers[:, 2:] / 2
    shares = np.clip(np.concatenate((numbers[:, :2] - half, numbers[:, :2] + half), axis=1), 0.0, 1.0)
    return Labels(shares, np.array([row[0] for row in rows], np.int64))


def _row(number: int, line: str, classes: int) -> tuple[int, float, float, float, float]:
    parts = line.split()
    where = f"line {number}: {line.strip()[:80]!r}"
    try:
        label = int(parts[0])
        x, y, width, height = map(float, parts[1:])
    except ValueError as error:
        raise LabelsError(f"{where} is not class, centre x, centre y, width, height ({error})") from error
    if not IGNORED <= label < classes:
        raise LabelsError(f"{where} has class {label}; classes.txt has 0 to {classes - 1}")
    if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
        raise LabelsError(f"{where} is no box; width and height are above 0")
    if not all(_within(middle, side) for middle, side in ((x, width), (y, height))):
        raise LabelsError(f"{where} reaches beyond the picture; all numbers are shares of its width and height, 0 to 1")
    return label, x, y, width, height


def _within(middle: float, side: float) -> bool:
    return 0 <= middle <= 1 and middle - side / 2 >= -_BEYOND and middle + side / 2 <= 1 + _BEYOND
