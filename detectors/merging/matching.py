"""Finds which boxes show the same object, and which box absorbs which, in near linear time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from detectors.geometry import quads as quadrilaterals
from detectors.geometry.arrays import BoolArray, Candidates, DoubleArray, IndexArray
from detectors.geometry.boxes import Metric, areas, shared_areas
from detectors.geometry.pairs import overlapping_pairs, pairs_within

# The best boxes are decided first and in small numbers, so that duplicates are removed before their pairs are compared.
FIRST_BLOCK = 1024
# The same, where no list of pairs is kept and every box may absorb others.
FIRST_SOURCES = 256
# More pairs that match are not listed at once, unless they are of the smallest block: that is some tens of megabytes.
MOST_PAIRS = 1 << 20
# Boxes are sparse when there are no more pairs that match than this, per box.
FEW_PAIRS = 2
# Up to this many boxes, all with all in one table is faster than a list of pairs.
FEW = 128
# How far the estimate from enclosing boxes may be off by rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Shapes:
    """Holds boxes, best first; two boxes match when they are in one bin and overlap by more than ``threshold``."""

    boxes: DoubleArray
    """float64 (N, 4) xyxy with positive sides; of rotated boxes what encloses them"""
    sizes: DoubleArray
    """float64 (N,), areas in px²; of rotated boxes their own"""
    bins: IndexArray
    """int64 (N,), not negative: the class or tile of each box; boxes of different bins never match"""
    quads: DoubleArray | None
    """Of rotated boxes: float64 (N, 4, 2), convex and with area; overlaps are then those of quads"""
    metric: Metric
    threshold: float

    @classmethod
    def of(cls, candidates: Candidates, bins: IndexArray, metric: Metric, threshold: float) -> Shapes:
        """Return the shapes of ``candidates``, in their order. Tiles clip boxes but not quads, which count in full."""
        if candidates.quads is None:
            boxes = candidates.boxes.astype(np.float64)
            return cls(boxes, areas(boxes), bins, None, metric, threshold)
        quads = candidates.quads.astype(np.float64)
        around = np.concatenate((quads.min(axis=1), quads.max(axis=1)), axis=1)
        return cls(around, quadrilaterals.quad_areas(quads), bins, quads, metric, threshold)

    def __len__(self) -> int:
        return len(self.bins)

    def match(self, better: IndexArray, worse: IndexArray) -> BoolArray:
        """Return bool (K,): which pairs (indices (K,) each, of the same bin) match."""
        one, two = self.boxes.take(better, axis=0), self.boxes.take(worse, axis=0)
        found: BoolArray = self._shares(better, worse, one, two) > self.threshold
        if self.quads is not None:
            # Quads share no more than their enclosing boxes do, which costs a tenth to know.
            likely = np.flatnonzero(found)
            one, two = self.quads.take(better[likely], axis=0), self.quads.take(worse[likely], axis=0)
            found[likely] = quadrilaterals.quad_overlaps(one, two, self.metric) > self.threshold
        return found

    def table(self) -> BoolArray:
        """Return bool (N, N): which box (row) matches which worse one (column)."""
        everyone = np.arange(len(self))
        shares = self._shares(everyone[:, None], everyone, self.boxes[:, None], self.boxes[None])
        table: BoolArray = np.triu((shares > self.threshold) & (self.bins[:, None] == self.bins), 1)
        if self.quads is not None:
            rows, columns = np.nonzero(table)
            table[rows, columns] = self.match(rows, columns)
        return table

    def _shares(self, better: IndexArray, worse: IndexArray, one: DoubleArray, two: DoubleArray) -> DoubleArray:
        """Return how much ``one`` and ``two`` overlap as boxes; quads overlap at most so much."""
        inside = shared_areas(one, two)
        size_one, size_two = self.sizes[better], self.sizes[worse]
        smaller = np.minimum(size_one, size_two)
        if self.quads is not None:
            inside = np.minimum(inside * (1 + _ROUNDING), smaller)
        shares: DoubleArray = inside / (size_one + size_two - inside if self.metric == "iou" else smaller)
        if self.quads is not None:
            shares *= 1 + _ROUNDING
        return shares


def greedy_owners(shapes: Shapes) -> IndexArray:
    """Return which box absorbs each: the best box takes all that match it, then the best of the rest, and so on.

    Returns int64 (N,): the index of the box that absorbs each box; a survivor has its own index. A box is compared with
    the survivors as they are, not with their unions.
    """
    if len(shapes) <= FEW:
        return _owners_of_few(shapes)
    owners = np.full(len(shapes), -1, np.int64)
    alive = np.arange(len(shapes))
    block = FIRST_BLOCK
    while alive.size:
        head, rest = alive[:block], alive[block:]
        pairs = _matches_within(shapes, head)
        if pairs is None:
            block = max(len(head) // 2, FIRST_BLOCK)
            continue
        survived = _decide(*pairs, head, owners)
        claimed = _first_match(shapes, head[survived], rest)
        taken = claimed < len(shapes)
        owners[rest[taken]] = claimed[taken]
        alive = rest[~taken]
        # Where boxes are sparse, as far as is known, all others are next.
        expected = len(pairs[0]) * (len(alive) / len(head)) ** 2
        block = len(alive) if expected <= FEW_PAIRS * len(alive) else 2 * block
    return owners


def chained_owners(shapes: Shapes) -> IndexArray:
    """Return which box absorbs each: each box, best first, joins the cluster of the best earlier box that matches it.

    Returns int64 (N,): the index of the best box of each box's cluster, which has its own index. Clusters are chains: a
    member need not match the best box, only some better member.
    """
    owners = np.arange(len(shapes))
    single = owners.copy()
    begin, block = 0, FIRST_SOURCES
    while begin < len(shapes) and single.size:
        sources = np.arange(begin, min(begin + block, len(shapes)))
        single = single[single > begin]
        found = _first_match(shapes, sources, single)
        joined = found < single
        owners[single[joined]] = found[joined]
        single = single[~joined]
        begin, block = begin + block, 4 * block
    while True:
        further = owners[owners]
        if np.array_equal(further, owners):
            return owners
        owners = further


def _first_match(shapes: Shapes, better: IndexArray, worse: IndexArray) -> IndexArray:
    """Return int64 (len(worse),): the best of ``better`` (indices) that matches each of ``worse`` and precedes it.

    N where there is none.
    """
    found = np.full(len(worse), len(shapes), np.int64)
    boxes, bins = shapes.boxes, shapes.bins
    for one, two in overlapping_pairs(boxes[better], boxes[worse], bins[better], bins[worse]):
        ours, theirs = better[one], worse[two]
        ahead = ours < theirs
        match = np.flatnonzero(ahead)[shapes.match(ours[ahead], theirs[ahead])]
        np.minimum.at(found, two[match], ours[match])
    return found


def _matches_within(shapes: Shapes, head: IndexArray) -> tuple[IndexArray, IndexArray] | None:
    """Return all matching pairs of places in ``head`` (indices, best first): the better ones, in order, and the worse.

    None when there are too many of them.
    """
    better: list[IndexArray] = []
    worse: list[IndexArray] = []
    count = 0
    for one, two in pairs_within(shapes.boxes[head], shapes.bins[head]):
        match = shapes.match(head[one], head[two])
        better.append(one[match])
        worse.append(two[match])
        count += len(better[-1])
        if count > MOST_PAIRS and len(head) > FIRST_BLOCK:
            return None
    first = np.concatenate(better) if better else np.empty(0, np.int64)
    second = np.concatenate(worse) if worse else np.empty(0, np.int64)
    order = np.argsort(first, kind="stable")
    return first[order], second[order]


def _decide(better: IndexArray, worse: IndexArray, head: IndexArray, owners: IndexArray) -> BoolArray:
    """Write the ``owners`` of ``head`` (indices, best first) from its matches, and return the survivors."""
    taken = np.full(len(head), -1, np.int64)
    for place, end in pairwise([*np.flatnonzero(np.diff(better, prepend=-1)).tolist(), len(better)]):
        leader = better[place]
        if taken[leader] < 0:
            members = worse[place:end]
            taken[members[taken[members] < 0]] = leader
    survived: BoolArray = taken < 0
    owners[head] = head[np.where(survived, np.arange(len(head)), taken)]
    return survived


def _owners_of_few(shapes: Shapes) -> IndexArray:
    """Return what ``greedy_owners`` returns, for at most FEW boxes: a table row becomes a number, a box a bit."""
    table = shapes.table()
    rows = [int.from_bytes(row.tobytes(), "little") for row in np.packbits(table, axis=1, bitorder="little")]
    gone = 0
    survivors: list[int] = []
    for place, row in enumerate(rows):
        if not gone >> place & 1:
            survivors.append(place)
            gone |= row
    owners = np.arange(len(shapes))
    if gone:
        leaders = np.array(survivors)
        by_leader = table[leaders]
        taken = by_leader.any(axis=0)
        taken[leaders] = False
        owners[taken] = leaders[by_leader[:, taken].argmax(axis=0)]
    return owners
