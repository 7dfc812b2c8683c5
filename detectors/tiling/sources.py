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
    """Holds some tiles of a plan, which are not cut yet."""

    numbers: tuple[int, ...]
    """The numbers of the tiles, at least one"""
    cut: Callable[[], ImageArray]
    """Makes the tiles, uint8 (N, input height, input width, 3) BGR; is called once, from any thread"""
    passed: int
    """How many tiles of the plan have been given with this batch and those before, or left out as empty"""

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """Yield the runs of consecutive tiles: where in the batch one begins, its first tile, and its tile count."""
        begin = 0
        for place, number in enumerate(self.numbers[1:], 1):
            if number != self.numbers[place - 1] + 1:
                yield begin, self.numbers[begin], place - begin
                begin = place
        yield begin, self.numbers[begin], len(self.numbers) - begin


class TileSource(Protocol):
    """Gives the tiles of one picture."""

    @property
    def width(self) -> int:
        """Return the width in pixels."""
        ...

    @property
    def height(self) -> int:
        """Return the height in pixels."""
        ...

    def batches(self, plan: TilePlan, size: int) -> Generator[TileBatch, None, None]:
        """Yield the tiles of ``plan`` in batches of at most ``size``; empty tiles may be missing.

        The memory of a batch is freed with it, so the caller bounds memory by the number of batches that it keeps.
        """
        ...


class ArraySource:
    """Gives the tiles of a picture in memory."""

    def __init__(self, image: ImageArray) -> None:
        """``image``: uint8 (h, w, 3) BGR."""
        self._image = image
        self.height, self.width = image.shape[:2]

    def batches(self, plan: TilePlan, size: int) -> Generator[TileBatch, None, None]:
        """See TileSource; no tile is missing."""
        for first in range(0, len(plan), size):
            count = min(size, len(plan) - first)
            yield TileBatch(tuple(range(first, first + count)), self._cutter(plan, first, count), first + count)

    def _cutter(self, plan: TilePlan, first: int, count: int) -> Callable[[], ImageArray]:
        return lambda: tiles.cut(self._image, plan, first, count)
