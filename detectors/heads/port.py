"""What a head is: it knows one export layout and reads boxes from a model's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from detectors.arrays import Outputs, RawBoxes

Shape = tuple[int, ...]


class Head(Protocol):
    """Reads one export layout. Built for an input size and a number of classes; keeps no state between calls."""

    def mismatch(self, shapes: Sequence[Shape]) -> str | None:
        """Why outputs of ``shapes`` (the first axis is the tile) are not of this layout, or None when they are."""
        ...

    def decode(self, outputs: Outputs, confidence: float) -> RawBoxes:
        """All boxes with a score of at least ``confidence`` (0..1), before any suppression.

        Raises InferenceError when scores or boxes are not numbers.
        """
        ...
