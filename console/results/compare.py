"""Compares what two jobs found in the same pictures: what both found, and what only one did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from console.results.records import Found

_MOST_PAIRS = 2_000_000
"""So many pairs of one picture that overlap are kept and ordered."""
_MOST_TRIED = 100_000_000
"""For so many pairs of one picture it is computed how much they overlap: some seconds."""
_CHUNK = 1 << 18

_Indices = NDArray[np.intp]
_Numbers = NDArray[np.float64]


class TooManyPairsError(Exception):
    """So many boxes of a picture lie over each other that they are not compared; the text says how many."""


@dataclass(slots=True)
class Comparison:
    """Holds the detections of one picture by who found them."""

    both: list[tuple[Found, Found, float]] = field(default_factory=list)
    """Of the first job and of the second, and how much they overlap (IoU)"""
    relabelled: list[tuple[Found, Found, float]] = field(default_factory=list)
    """At the same place, but of different classes"""
    only_first: list[Found] = field(default_factory=list)
    only_second: list[Found] = field(default_factory=list)


def compare(first: Sequence[Found], second: Sequence[Found], iou: float) -> Comparison:
    """Match the detections of two jobs in one picture; a pair overlaps by at least ``iou``.

    The pairs that overlap most are matched first, those of one class before others; each detection is in one pair at
    most. Raises TooManyPairsError.
    """
    result = Comparison()
    left_first, left_second = dict(enumerate(first)), dict(enumerate(second))
    ones, others, overlaps = _overlaps(first, second, iou)
    candidates = list(zip(ones.tolist(), others.tolist(), overlaps.tolist(), strict=True))
    for same_class in (True, False):
        pairs = result.both if same_class else result.relabelled
        for one, other, overlap in candidates:
            if one not in left_first or other not in left_second:
                continue
            if (first[one].label == second[other].label) is same_class:
                pairs.append((left_first.pop(one), left_second.pop(other), overlap))
    result.only_first.extend(left_first.values())
    result.only_second.extend(left_second.values())
    return result


def _overlaps(first: Sequence[Found], second: Sequence[Found], iou: float) -> tuple[_Indices, _Indices, _Numbers]:
    """Return the pairs that overlap enough, by their places and with their overlap, the largest overlap first."""
    nothing = np.empty(0, np.intp)
    ones, others, overlaps = [nothing], [nothing], [np.empty(0, np.float64)]
    if first and second:
        left = np.array([each.box for each in first], np.float64)
        right = np.array([each.box for each in second], np.float64)
        count = 0
        for some, beside in _near(left, right):
            found = _iou(left[some], right[beside])
            enough = found >= iou
            ones.append(some[enough])
            others.append(beside[enough])
            overlaps.append(found[enough])
            count += len(ones[-1])
            if count > _MOST_PAIRS:
                raise TooManyPairsError(f"more than {_MOST_PAIRS:,} pairs of boxes overlap by {iou:g} or more")
    one, other, overlap = np.concatenate(ones), np.concatenate(others), np.concatenate(overlaps)
    order = np.lexsort((other, one, -overlap))
    return one[order], other[order], overlap[order]


def _iou(left: _Numbers, right: _Numbers) -> _Numbers:
    """Return how much the boxes (N, 4) of the same rows overlap (N)."""
    sides = np.minimum(left[:, 2:], right[:, 2:]) - np.maximum(left[:, :2], right[:, :2])
    shared: _Numbers = np.prod(np.maximum(sides, 0.0), axis=1)
    union = np.prod(left[:, 2:] - left[:, :2], axis=1) + np.prod(right[:, 2:] - right[:, :2], axis=1) - shared
    shares: _Numbers = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return shares


@dataclass(frozen=True, slots=True)
class _Range:
    """Holds, for each box, which boxes of a class may overlap it: those from ``low`` to before ``high``."""

    places: _Indices
    low: _Indices
    high: _Indices

    @property
    def count(self) -> int:
        return int((self.high - self.low).sum())


def _near(left: _Numbers, right: _Numbers) -> Iterator[tuple[_Indices, _Indices]]:
    """Yield the places of all pairs of boxes that may overlap, some at a time. Raises TooManyPairsError."""
    ways = [_ranges(left[:, axis], left[:, axis + 2], right[:, axis], right[:, axis + 2]) for axis in (0, 1)]
    axis, way = min(enumerate(ways), key=lambda each: _total(each[1]))
    if _total(way) > _MOST_TRIED:
        raise TooManyPairsError(f"more than {_MOST_TRIED:,} pairs of boxes lie beside each other")
    # In this direction most of these pairs do not overlap; it is looked at first.
    (left_low, left_high), (low, high) = (
        (np.ascontiguousarray(boxes[:, 1 - axis]), np.ascontiguousarray(boxes[:, 3 - axis])) for boxes in (left, right)
    )
    for found in way:
        counts = found.high - found.low
        before = np.concatenate([[0], np.cumsum(counts)])
        start = 0
        while start < len(left):
            end = max(start + 1, int(np.searchsorted(before, before[start] + _CHUNK, "right")) - 1)
            some = counts[start:end]
            within = np.arange(some.sum()) - np.repeat(np.cumsum(some) - some, some)
            ones = np.repeat(np.arange(start, end), some)
            others = found.places[np.repeat(found.low[start:end], some) + within]
            cross = np.flatnonzero((low[others] <= left_high[ones]) & (high[others] >= left_low[ones]))
            yield ones[cross], others[cross]
            start = end


def _total(way: Sequence[_Range]) -> int:
    return sum(each.count for each in way)


def _ranges(left_low: _Numbers, left_high: _Numbers, low: _Numbers, high: _Numbers) -> list[_Range]:
    """Return which boxes overlap in one direction, by classes of their sides: a long one makes no other range long."""
    lengths = high - low
    # The exponents of two; a side of 0 has one as well.
    classes = np.frexp(lengths)[1]
    found = []
    for each in np.unique(classes):
        places = np.flatnonzero(classes == each)
        places = places[np.argsort(low[places], kind="stable")]
        starts = low[places]
        reach = left_low - lengths[places].max()
        found.append(
            _Range(places, np.searchsorted(starts, reach, "left"), np.searchsorted(starts, left_high, "right"))
        )
    return found


def by_content(digests: Sequence[str]) -> dict[str, list[int]]:
    """Return the places of each digest, in order."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, digest in enumerate(digests):
        places[digest].append(place)
    return dict(places)
