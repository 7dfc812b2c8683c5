"""Finds all pairs of overlapping boxes, by sorting boxes into strips, in memory that grows with their number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from detectors.geometry.arrays import DoubleArray, IndexArray

# Pairs compared at a time: a few megabytes of temporary arrays, which mostly stay in the processor's cache.
CHUNK_PAIRS = 1 << 16
# Below this many combinations comparing all with all is faster than sorting.
DENSE_PAIRS = 1 << 14
# A strip is this much taller than the mean box, so that a box is in about two strips.
STRIP_OF_MEAN = 1.5


def overlapping_pairs(
    first: DoubleArray, second: DoubleArray, first_bins: IndexArray, second_bins: IndexArray
) -> Iterator[tuple[IndexArray, IndexArray]]:
    """Yield all pairs of a box of ``first`` and one of ``second`` that share area and are in the same bin.

    first: float64 (N, 4) xyxy; second: float64 (M, 4); all boxes with positive width and height; bins: int64 (N,) and
    (M,), not negative. Yields chunks of (indices into first, indices into second); each pair comes exactly once, in no
    defined order. Memory is linear in N + M plus the chunk.
    """
    if not len(first) or not len(second):
        return
    if len(first) * len(second) <= DENSE_PAIRS:
        yield _dense(first, second, first_bins, second_bins)
        return
    grid = _Grid.over(first, second)
    one, two = grid.entries(first, first_bins), grid.entries(second, second_bins)
    # Of two boxes that overlap, either the second starts within the first, or the first starts after the second does.
    yield from _swept(grid, one, two, first, second, inclusive=True)
    for ours, theirs in _swept(grid, two, one, second, first, inclusive=False):
        yield theirs, ours


def pairs_within(boxes: DoubleArray, bins: IndexArray) -> Iterator[tuple[IndexArray, IndexArray]]:
    """Yield all pairs of two of ``boxes`` that share area and are in the same bin, the lower index first.

    boxes: float64 (N, 4) xyxy with positive sides; bins: int64 (N,), not negative. Yields chunks; each pair once.
    """
    if len(boxes) ** 2 <= DENSE_PAIRS:
        rows, columns = _dense(boxes, boxes, bins, bins)
        ahead = rows < columns
        yield rows[ahead], columns[ahead]
        return
    grid = _Grid.over(boxes, boxes)
    entries = grid.entries(boxes, bins)
    for one, two in _swept(grid, entries, entries, boxes, boxes, inclusive=True):
        # Boxes with the same left edge find each other twice, and every box finds itself.
        once = (boxes[one, 0] < boxes[two, 0]) | (one < two)
        low, high = one[once], two[once]
        yield np.minimum(low, high), np.maximum(low, high)


def _dense(
    first: DoubleArray, second: DoubleArray, first_bins: IndexArray, second_bins: IndexArray
) -> tuple[IndexArray, IndexArray]:
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    hit = (low < high).all(axis=2) & (first_bins[:, None] == second_bins[None])
    rows, columns = np.nonzero(hit)
    return rows, columns


@dataclass(frozen=True, slots=True, eq=False)
class _BoxesInStrips:
    """Holds each box once for each strip that it crosses, sorted by bin, strip and left edge.

    All arrays are int64 (E,), one element for each box in each of its strips.
    """

    index: IndexArray
    """The box"""
    bin_strip: IndexArray
    """Bin and strip as one number"""
    strip: IndexArray
    right: IndexArray
    """The rank of the first left edge that is not before the box's right edge"""
    keys: IndexArray
    """``bin_strip`` and the rank of the box's left edge as one sortable number"""


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """Divides the plane into horizontal strips, and ranks all left edges (ranks are exact where floats would round)."""

    top: float
    strip_height: float
    strips: int
    edges: DoubleArray

    @classmethod
    def over(cls, first: DoubleArray, second: DoubleArray) -> _Grid:
        total = float((first[:, 3] - first[:, 1]).sum() + (second[:, 3] - second[:, 1]).sum())
        top = float(min(first[:, 1].min(), second[:, 1].min()))
        bottom = float(max(first[:, 3].max(), second[:, 3].max()))
        height = STRIP_OF_MEAN * total / (len(first) + len(second))
        edges = np.unique(np.concatenate((first[:, 0], second[:, 0])))
        return cls(top, height, int((bottom - top) / height) + 1, edges)

    def strip_of(self, y: DoubleArray) -> IndexArray:
        return ((y - self.top) / self.strip_height).astype(np.int64)

    def key(self, bin_strip: IndexArray, rank: IndexArray) -> IndexArray:
        return bin_strip * (len(self.edges) + 1) + rank

    def entries(self, boxes: DoubleArray, bins: IndexArray) -> _BoxesInStrips:
        upper, lower = self.strip_of(boxes[:, 1]), self.strip_of(boxes[:, 3])
        index, step = _spread(lower - upper + 1)
        strip = upper[index] + step
        bin_strip = bins[index] * self.strips + strip
        keys = self.key(bin_strip, np.searchsorted(self.edges, boxes[:, 0])[index])
        order = np.argsort(keys)
        index = index[order]
        right = np.searchsorted(self.edges, boxes[:, 2])[index]
        return _BoxesInStrips(index, bin_strip[order], strip[order], right, keys[order])


def _spread(counts: IndexArray) -> tuple[IndexArray, IndexArray]:
    """Return for counts [2, 0, 3] the owners [0, 0, 2, 2, 2] and the steps [0, 1, 0, 1, 2]."""
    owners = np.repeat(np.arange(len(counts)), counts)
    before = np.cumsum(counts) - counts
    return owners, np.arange(len(owners)) - before[owners]


def _swept(
    grid: _Grid,
    asking: _BoxesInStrips,
    found: _BoxesInStrips,
    ours: DoubleArray,
    theirs: DoubleArray,
    *,
    inclusive: bool,
) -> Iterator[tuple[IndexArray, IndexArray]]:
    """Yield the pairs (ours, theirs) where theirs starts within ours; at its left edge only if ``inclusive``."""
    start = np.searchsorted(found.keys, asking.keys if inclusive else asking.keys + 1)
    counts = np.maximum(np.searchsorted(found.keys, grid.key(asking.bin_strip, asking.right)) - start, 0)
    for begin, end in _chunks(counts):
        owner, step = _spread(counts[begin:end])
        owner += begin
        position = start[owner] + step
        one, two = asking.index[owner], found.index[position]
        top = np.maximum(ours[one, 1], theirs[two, 1])
        bottom = np.minimum(ours[one, 3], theirs[two, 3])
        # Two boxes may share several strips; the pair counts in the strip where their common part begins.
        keep = (top < bottom) & (grid.strip_of(top) == asking.strip[owner])
        yield one[keep], two[keep]


def _chunks(counts: IndexArray) -> Iterator[tuple[int, int]]:
    """Yield consecutive ranges of ``counts`` whose sums are near CHUNK_PAIRS (at least one element each)."""
    done = np.cumsum(counts)
    begin, spent = 0, 0
    while begin < len(counts):
        end = max(begin + 1, int(np.searchsorted(done, spent + CHUNK_PAIRS, side="right")))
        spent = int(done[end - 1])
        yield begin, end
        begin = end
