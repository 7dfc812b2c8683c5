"""Settles boxes of different classes that show the same thing: fragments of a thing found whole, and equal boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors.geometry.arrays import BoolArray, Candidates, IndexArray
from detectors.geometry.boxes import areas, shared_areas
from detectors.geometry.pairs import overlapping_pairs
from detectors.merging.matching import Shapes, greedy_owners
from detectors.tiling.tiles import TilePlan, touched_inner_edges

# A fragment has at least this share of its area inside the whole box.
INSIDE_SHARE = 0.8
# It fills at least this share of what its tile sees of the whole thing, or it is far less sure than the whole box. What
# is in front of a thing (a person before a car) is neither.
FILLED_SHARE, LESS_SURE = 0.5, 0.5
# A whole box that is far less sure than a fragment settles nothing.
SURE_ENOUGH = 0.5


def without_fragments(candidates: Candidates, plan: TilePlan) -> Candidates:
    """Return ``candidates`` without fragments: pieces of a thing that another tile, often at another scale, saw whole.

    A model names a piece of a large thing by what it looks like: the side of a bus is a train. A box is a fragment when
    an inner edge of its tile cuts it, a whole box of a different class and tile continues beyond that edge and contains
    it, and it fills what its tile sees of that, or is far less sure. Pieces of the same class are left to
    :func:`detectors.merging.pieces.resolve_pieces`, and so are rotated boxes.
    """
    pieces, wholes = np.flatnonzero(candidates.cut), np.flatnonzero(~candidates.cut)
    if candidates.quads is not None or not len(pieces) or not len(wholes):
        return candidates
    boxes = candidates.boxes.astype(np.float64)
    scores, classes, tiles = candidates.scores, candidates.classes, candidates.tiles
    regions = plan.boxes[tiles[pieces]].astype(np.float64)
    touched = touched_inner_edges(plan, candidates.boxes[pieces], tiles[pieces])
    sizes = areas(boxes)
    fragment = np.zeros(len(candidates), np.bool_)
    everything = (np.zeros(len(each), np.int64) for each in (pieces, wholes))
    for ours, theirs in overlapping_pairs(boxes[pieces], boxes[wholes], *everything):
        piece, whole = pieces[ours], wholes[theirs]
        likely = (
            (classes[piece] != classes[whole])
            & (tiles[piece] != tiles[whole])
            & (sizes[piece] < sizes[whole])
            & (scores[whole] >= SURE_ENOUGH * scores[piece])
        )
        one, piece, whole = ours[likely], piece[likely], whole[likely]
        inside = shared_areas(boxes[piece], boxes[whole]) >= INSIDE_SHARE * sizes[piece]
        region = regions[one]
        beyond = np.concatenate((boxes[whole, :2] < region[:, :2], boxes[whole, 2:] > region[:, 2:]), axis=1)
        continued = (touched[one] & beyond).any(axis=1)
        fills = sizes[piece] >= FILLED_SHARE * shared_areas(boxes[whole], region)
        unsure = scores[piece] < LESS_SURE * scores[whole]
        fragment[piece[inside & continued & (fills | unsure)]] = True
    return _kept(candidates, ~fragment)


def settle_classes(candidates: Candidates, threshold: float) -> Candidates:
    """Return ``candidates`` (merged, best first) without boxes that show the same thing as a better one.

    That are boxes of another class whose overlap (IoU; of rotated boxes that of their quads) exceeds ``threshold``. A
    small thing in front of a large one overlaps it by far less, also where it is all inside.
    """
    if threshold >= 1 or len(candidates) < 2 or (candidates.classes == candidates.classes[0]).all():
        return candidates
    rivals = _Rivals.of_classes(candidates, threshold)
    return _kept(candidates, greedy_owners(rivals) == np.arange(len(candidates)))


@dataclass(frozen=True, slots=True, eq=False)
class _Rivals(Shapes):
    """Holds boxes, best first; two match when they overlap and are of different classes."""

    classes: IndexArray

    @classmethod
    def of_classes(cls, candidates: Candidates, threshold: float) -> _Rivals:
        """Return the boxes of ``candidates``, in their order."""
        all_of_one = np.zeros(len(candidates), np.int64)
        one = Shapes.of(candidates, all_of_one, "iou", threshold)
        classes = candidates.classes.astype(np.int64)
        return cls(one.boxes, one.sizes, one.bins, one.quads, one.metric, one.threshold, classes)

    def match(self, better: IndexArray, worse: IndexArray) -> BoolArray:
        """See Shapes."""
        found: BoolArray = Shapes.match(self, better, worse) & (self.classes[better] != self.classes[worse])
        return found

    def table(self) -> BoolArray:
        """See Shapes."""
        table: BoolArray = Shapes.table(self) & (self.classes[:, None] != self.classes)
        return table


def _kept(candidates: Candidates, rows: BoolArray) -> Candidates:
    return candidates if rows.all() else candidates.take(rows)
