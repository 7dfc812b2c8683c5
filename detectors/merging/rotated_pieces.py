"""Finds which pieces of rotated boxes are inside whole boxes, and which are parts of one object.

The counterpart of what :mod:`detectors.merging.pieces` does with upright boxes. Of a piece the part of its
rotated box that is in its tile counts: outside the tile a model only guesses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors.geometry.arrays import BoolArray, Candidates, DoubleArray, FloatArray, IndexArray
from detectors.geometry.polygons import polygon_areas, within_boxes
from detectors.geometry.quads import common_areas
from detectors.merging.rotated_union import box_around
from detectors.tiling.tiles import TilePlan

# A piece is dropped when a whole box covers this share of it. Less than of an upright one: of a corner a tile
# sees a triangle, and a box around a triangle is twice as large.
COVERED_SHARE = 0.3
# Two pieces are parts of one object when what they cover of the region both tiles see is the same to this share of
# both together. Neighbours share nothing, while an error of a pixel or two costs a thin box half.
SAME_PLACE = 0.3
# Where both tiles see almost nothing in common, the box around two pieces has to fit them this well (IoU).
FILLED = 0.75
# Where the box around parts ends, see box_around: to see whether two may be parts, and to measure the object.
END_SHARE_OF_TWO, END_SHARE = 0.5, 0.75


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Holds pieces of rotated boxes, and their tiles; all in frame pixels."""

    quads: FloatArray
    """float32 (K, 4, 2): the rotated boxes as they are"""
    seen: DoubleArray
    """float64 (K, 8, 2): the part of each box inside its tile"""
    regions: DoubleArray
    """float64 (K, 4): the tiles, extended beyond the frame at the frame's edge"""

    @classmethod
    def of(cls, candidates: Candidates, plan: TilePlan, rows: IndexArray) -> Pieces:
        """Return the candidates at ``rows``, which have rotated boxes."""
        assert candidates.quads is not None, "pieces are of rotated boxes"
        tiles, quads = candidates.tiles[rows], candidates.quads[rows]
        # The frame's own edge cuts nothing off: of objects that leave the frame a model may guess the rest.
        beyond = np.array((-plan.frame_width, -plan.frame_height, plan.frame_width, plan.frame_height))
        regions = (plan.boxes[tiles] + np.where(plan.inner_edges()[tiles], 0, beyond)).astype(np.float64)
        return cls(quads, within_boxes(quads.astype(np.float64), regions), regions)

    def take(self, rows: BoolArray) -> Pieces:
        """Return the pieces of the mask ``rows``."""
        return Pieces(self.quads[rows], self.seen[rows], self.regions[rows])

    def covered(self, one: IndexArray, wholes: FloatArray) -> BoolArray:
        """Return bool (P,): whether the pieces ``one`` (int64 (P,)) are under their partners ``wholes`` ((P, 4, 2))."""
        seen = self.seen[one]
        covered: BoolArray = common_areas(seen, wholes.astype(np.float64)) > COVERED_SHARE * polygon_areas(seen)
        return covered

    def agree(self, one: IndexArray, two: IndexArray, margins: DoubleArray) -> BoolArray:
        """Return bool (P,): whether the pieces ``one`` and ``two`` (int64 (P,), of different tiles) are of one object.

        ``margins``: float64 (P, 2), how uncertain an end is, in x and y, frame pixels.
        """
        low = np.maximum(self.regions[one, :2], self.regions[two, :2])
        high = np.minimum(self.regions[one, 2:], self.regions[two, 2:])
        narrow = (high - low <= 2 * margins).any(axis=1)
        agree = np.zeros(len(one), np.bool_)
        wide = np.flatnonzero(~narrow)
        agree[wide] = self._same_within(one[wide], two[wide], np.concatenate((low, high), axis=1)[wide])
        for place in np.flatnonzero(narrow):
            agree[place] = self._fill(int(one[place]), int(two[place]))
        return agree

    def _same_within(self, one: IndexArray, two: IndexArray, common: DoubleArray) -> BoolArray:
        first, second = within_boxes(self.seen[one], common), within_boxes(self.seen[two], common)
        shared = common_areas(first, second)
        together = polygon_areas(first) + polygon_areas(second) - shared
        same: BoolArray = shared > SAME_PLACE * together
        return same

    def _fill(self, one: int, two: int) -> bool:
        both = self.seen[[one, two]]
        around, fit = box_around(both, self.quads[[one, two]], self.quads[one], END_SHARE_OF_TWO)
        inside = common_areas(both, np.stack((around, around)).astype(np.float64))
        return fit > FILLED and bool((inside > COVERED_SHARE * polygon_areas(both)).all())

    def joined(self, parents: IndexArray, best: IndexArray) -> FloatArray:
        """Return float32 (C, 4, 2): the rotated box around what each component shows, in the order of ``best``.

        parents: int64, the component of each piece; best: int64 (C,), the best piece of each, which gives the direction
        of the box. A single piece keeps its box.
        """
        quads = self.quads[best]
        counts = np.bincount(parents, minlength=len(parents))
        for place in np.flatnonzero(counts[parents[best]] > 1):
            members = parents == parents[best[place]]
            quads[place], _ = box_around(self.seen[members], self.quads[members], quads[place], END_SHARE)
        return quads
