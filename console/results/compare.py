"""Compares what two jobs found in the same pictures: what both found, and what only one did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from console.results.records import Found


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
    most.
    """
    result = Comparison()
    left_first, left_second = dict(enumerate(first)), dict(enumerate(second))
    candidates = _overlaps(first, second, iou)
    for same_class in (True, False):
        pairs = result.both if same_class else result.relabelled
        for overlap, one, other in candidates:
            if one not in left_first or other not in left_second:
                continue
            if (first[one].label == second[other].label) is same_class:
                pairs.append((left_first.pop(one), left_second.pop(other), overlap))
    result.only_first.extend(left_first.values())
    result.only_second.extend(left_second.values())
    return result


def _overlaps(first: Sequence[Found], second: Sequence[Found], iou: float) -> list[tuple[float, int, int]]:
    """Return the pairs that overlap enough, those with the largest overlap first."""
    if not first or not second:
        return []
    others = np.array([each.box for each in second], np.float64)
    areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    found: list[tuple[float, int, int]] = []
    for place, each in enumerate(first):
        box = np.array(each.box, np.float64)
        across = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
        down = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
        shared = np.maximum(across, 0.0) * np.maximum(down, 0.0)
        union = areas + (box[2] - box[0]) * (box[3] - box[1]) - shared
        overlap = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        found.extend((float(overlap[other]), place, int(other)) for other in np.flatnonzero(overlap >= iou))
    return sorted(found, key=lambda pair: (-pair[0], pair[1], pair[2]))


def by_content(digests: Sequence[str]) -> dict[str, list[int]]:
    """Return the places of each digest, in order."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, digest in enumerate(digests):
        places[digest].append(place)
    return dict(places)
