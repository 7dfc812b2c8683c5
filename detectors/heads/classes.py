"""Finds the place in the card of the class numbers in a model's output."""

from __future__ import annotations

import numpy as np

from detectors.errors import InferenceError
from detectors.geometry.arrays import FloatArray, IndexArray, IntArray


class ClassNumbers:
    """Holds the numbers of a card's classes in the model's output: their places in the card, or the card's ids."""

    def __init__(self, count: int, ids: tuple[int, ...] | None = None) -> None:
        """``count`` classes at least 1; ``ids``: one per class, all different, or None when the places are meant."""
        self.count = count
        self.stated = ids is not None
        self.numbers: IndexArray = np.array(range(count) if ids is None else ids, np.int64)
        self._order = np.argsort(self.numbers)
        self._sorted = self.numbers[self._order]

    def places(self, values: FloatArray) -> IntArray:
        """Return int32 (K,): the places in the card of the model's class numbers ``values`` (float32 (K,), no NaN).

        -1 is a class that the card leaves out on purpose, which only a card with ids can. Without ids such a number
        means that the card lacks classes, or that the output is read in the wrong way: InferenceError.
        """
        at = np.minimum(np.searchsorted(self._sorted, values), self.count - 1)
        known = self._sorted[at] == values
        if not (self.stated or known.all()):
            raise InferenceError(
                f"the model found class {values[~known][0]:g}, the card has {self.count} classes (0 to "
                f"{self.count - 1}): list all of the model's classes in the card, or give each its id"
            )
        found: IntArray = np.where(known, self._order[at], -1).astype(np.int32)
        return found
