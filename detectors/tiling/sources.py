"""Defines the port that gives tiles in batches, and the source for a picture in memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

from detectors.geometry.arrays import ImageArray
from detectors.tiling import tiles
from detectors.tiling.tiles import TilePlan


@dataclass(frozen=True, slots=True, eq=False)
class TileBatch:
    """Some tiles of a plan, not yet cut.

    numbers: which ones, ascending, at least one; cut: makes them, uint8 (N, input height, input width, 3) BGR; it may
    be called from any thread.
    """

    numbers: tuple[int, ...]
    cut: Callable[[], ImageArray]

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """The stretches of consecutive tiles in it: where in the batch one begins, its first tile, how many tiles."""
        begin = 0
        for place, number in enumerate(self.numbers[1:], 1):
            if number != self.numbers[place - 1] + 1:
                yield begin, self.numbers[begin], place - begin
                begin = place
        yield begin, self.numbers[begin], len(self.numbers) - begin


class TileSource(Protocol):
    """A picture that gives its tiles."""

    @property
    def width(self) -> int:
        """Pixels."""
        ...

    @property
    def height(self) -> int:
        """Pixels."""
        ...

    def batches(self, plan: TilePlan, size: int) -> Generator[TileBatch, None, None]:
        """The tiles of ``plan`` in its order, in batches of at most ``size``; tiles that show nothing may be missing.

        What a batch refers to is freed with it, so memory is bounded by how many are kept.
        """
        ...


class ArraySource:
    """A picture in memory."""

    def __init__(self, image: ImageArray) -> None:
        """``image``: uint8 (h, w, 3) BGR."""
        self._image = image
        self.height, self.width = image.shape[:2]

    def batches(self, plan: TilePlan, size: int) -> Generator[TileBatch, None, None]:
        """See TileSource; no tile is missing."""
        for first in range(0, len(plan), size):
            count = min(size, len(plan) - first)
            yield TileBatch(tuple(range(first, first + count)), self._cutter(plan, first, count))

    def _cutter(self, plan: TilePlan, first: int, count: int) -> Callable[[], ImageArray]:
        return lambda: tiles.cut(self._image, plan, first, count)
