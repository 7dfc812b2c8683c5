"""Defines rectangles in whole pixels, and the order in which the parts of a large one are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# Where values are sampled for their range: so many places along each axis, each so many pixels wide and high.
_SAMPLES, _SAMPLE_PX = 12, 64


@dataclass(frozen=True, slots=True)
class PixelArea:
    """Describes a part of a picture in whole pixels; right and bottom are outside it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Return the width in pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Return the height in pixels."""
        return self.bottom - self.top


def parts(area: PixelArea, block: tuple[int, int], most_pixels: int) -> Iterator[PixelArea]:
    """Yield ``area`` in parts of about ``most_pixels``, row by row, with inner edges on edges of the file's blocks.

    ``block``: height and width of what the file decodes at once. So each block is decoded once, unless one block is
    larger than a part.
    """
    block_height, block_width = block
    rows = _fitting(block_height, most_pixels // max(1, min(area.width, block_width)))
    columns = _fitting(block_width, most_pixels // rows)
    for top, bottom in _steps(area.top, area.bottom, rows, block_height):
        for left, right in _steps(area.left, area.right, columns, block_width):
            yield PixelArea(left, top, right, bottom)


def _fitting(block: int, most: int) -> int:
    """Return the largest number of whole blocks up to ``most``; ``most`` itself where a block is larger."""
    return max(1, most // block * block if most >= block else most)


def _steps(start: int, end: int, step: int, block: int) -> Iterator[tuple[int, int]]:
    """Yield ``start`` to ``end`` in steps; inner edges are multiples of ``block`` where steps are whole blocks."""
    at = start
    while at < end:
        following = at + step
        if step >= block:
            following = max(at + 1, following // block * block)
        yield at, min(end, following)
        at = min(end, following)


def sample_places(width: int, height: int) -> Iterator[PixelArea]:
    """Yield small areas that are evenly spread over the picture, row by row."""
    wide, high = min(_SAMPLE_PX, width), min(_SAMPLE_PX, height)
    for top in sorted({round(each) for each in np.linspace(0, height - high, _SAMPLES)}):
        for left in sorted({round(each) for each in np.linspace(0, width - wide, _SAMPLES)}):
            yield PixelArea(left, top, left + wide, top + high)
