"""Drops or joins boxes that an inner tile edge cut: dropped where a neighbouring tile saw the whole object."""

from __future__ import annotations

import numpy as np

from detectors.geometry.arrays import BoolArray, Candidates, DoubleArray, FloatArray, IndexArray
from detectors.geometry.boxes import areas, shared_areas
from detectors.geometry.pairs import overlapping_pairs, pairs_within
from detectors.merging.rotated_pieces import Pieces
from detectors.tiling.tiles import TilePlan, edge_margins

# A piece is dropped when a whole box of a different tile covers this share of it.
INSIDE_SHARE = 0.6
# Two pieces are parts of one object when, in the region both tiles see, their extents agree this well (1-D IoU).
SAME_EXTENT = 0.5


def resolve_pieces(candidates: Candidates, plan: TilePlan, class_aware: bool) -> Candidates:
    """Return ``candidates`` with pieces (``cut``) dropped or joined; what is left is whole, as far as a tile saw it.

    1. A piece that is mostly inside a whole box of the same class from a different tile is dropped.
    2. Pieces of different tiles that agree about the region both tiles see are parts of one object: the best of them
       gets the union of their boxes. A piece without partner stays as it is.

    Of rotated boxes the part inside their tile counts, and the union is the smallest rotated box around these parts.
    The order is that of ``candidates``. With ``class_aware`` false, boxes of all classes are compared.
    """
    if not candidates.cut.any():
        return candidates
    bins = candidates.classes.astype(np.int64) if class_aware else np.zeros(len(candidates), np.int64)
    pieces, wholes = np.flatnonzero(candidates.cut), np.flatnonzero(~candidates.cut)
    turned = None if candidates.quads is None else Pieces.of(candidates, plan, pieces)
    left = ~_seen_whole(candidates, bins, pieces, wholes, turned)
    pieces, turned = pieces[left], turned and turned.take(left)
    parents = _components(len(pieces), _parts_of_one(candidates, plan, bins, pieces, turned))
    boxes, first = _union(candidates, pieces, parents)
    best = pieces[first]
    grown = candidates.boxes.copy()
    grown[best] = boxes
    quads = candidates.quads
    if quads is not None and turned is not None:
        quads = quads.copy()
        quads[best] = turned.joined(parents, first)
    kept = np.sort(np.concatenate((wholes, best)))
    joined = Candidates(grown, candidates.scores, candidates.classes, candidates.tiles, candidates.cut, quads)
    return joined.take(kept)


def _seen_whole(
    candidates: Candidates, bins: IndexArray, pieces: IndexArray, wholes: IndexArray, turned: Pieces | None
) -> BoolArray:
    """Return bool (len(pieces),): which pieces are mostly inside a whole box of a different tile."""
    boxes = candidates.boxes.astype(np.float64)
    found = np.zeros(len(pieces), np.bool_)
    size = areas(boxes)
    for one, two in overlapping_pairs(boxes[pieces], boxes[wholes], bins[pieces], bins[wholes]):
        piece, whole = pieces[one], wholes[two]
        inside = shared_areas(boxes[piece], boxes[whole]) > INSIDE_SHARE * size[piece]
        if turned is not None and candidates.quads is not None:
            inside = turned.covered(one, candidates.quads[whole])
        found[one[inside & (candidates.tiles[piece] != candidates.tiles[whole])]] = True
    return found


def _parts_of_one(
    candidates: Candidates, plan: TilePlan, bins: IndexArray, pieces: IndexArray, turned: Pieces | None
) -> list[tuple[int, int]]:
    """Return pairs of positions in ``pieces`` that show parts of one object."""
    boxes = candidates.boxes[pieces].astype(np.float64)
    tiles = candidates.tiles[pieces]
    margins = edge_margins(plan, candidates.boxes[pieces], tiles).astype(np.float64)
    reach = np.concatenate((boxes[:, :2] - margins, boxes[:, 2:] + margins), axis=1)
    regions = plan.boxes[tiles].astype(np.float64)
    pairs: list[tuple[int, int]] = []
    for one, two in pairs_within(reach, bins[pieces]):
        agree = tiles[one] != tiles[two]
        if turned is not None:
            agree &= turned.agree(one, two, np.maximum(margins[one], margins[two]))
        for axis in (0, 1) if turned is None else ():
            agree &= _agree(
                boxes[one, axis::2],
                boxes[two, axis::2],
                np.maximum(regions[one, axis], regions[two, axis]),
                np.minimum(regions[one, axis + 2], regions[two, axis + 2]),
                np.maximum(margins[one, axis], margins[two, axis]),
            )
        pairs.extend(zip(one[agree].tolist(), two[agree].tolist(), strict=True))
    return pairs


def _agree(
    first: DoubleArray, second: DoubleArray, low: DoubleArray, high: DoubleArray, margin: DoubleArray
) -> BoolArray:
    """Return whether two extents along an axis (float64 (K, 2): from, to) agree within what both tiles see.

    Both tiles see ``low`` to ``high`` (each (K,)). Where that is not wider than the uncertainty of the ends
    (``margin``, (K,)), it shows nothing of the extents, so both only have to reach it.
    """
    one = np.clip(first, low[:, None], np.maximum(low, high)[:, None])
    two = np.clip(second, low[:, None], np.maximum(low, high)[:, None])
    common = np.minimum(one[:, 1], two[:, 1]) - np.maximum(one[:, 0], two[:, 0])
    spanned = np.maximum(one[:, 1], two[:, 1]) - np.minimum(one[:, 0], two[:, 0])
    reaching = np.ones(len(low), np.bool_)
    for extent in (first, second):
        reaching &= (extent[:, 0] <= high + margin) & (extent[:, 1] >= low - margin)
    narrow = np.abs(high - low) <= 2 * margin
    agree: BoolArray = np.where(narrow, reaching, common > SAME_EXTENT * spanned)
    return agree


def _components(count: int, pairs: list[tuple[int, int]]) -> IndexArray:
    """Return int64 (count,): for each element the smallest element that ``pairs`` connect it with, or itself."""
    parents = list(range(count))

    def root(element: int) -> int:
        while parents[element] != element:
            parents[element] = parents[parents[element]]
            element = parents[element]
        return element

    for one, two in pairs:
        low, high = sorted((root(one), root(two)))
        parents[high] = low
    return np.array([root(element) for element in range(count)], np.int64)


def _union(candidates: Candidates, pieces: IndexArray, parents: IndexArray) -> tuple[FloatArray, IndexArray]:
    """Return the union box of each component, and the place in ``pieces`` of its best one (score, then order)."""
    boxes = candidates.boxes[pieces]
    low, high = boxes[:, :2].copy(), boxes[:, 2:].copy()
    np.minimum.at(low, parents, boxes[:, :2])
    np.maximum.at(high, parents, boxes[:, 2:])
    # The first of each component in this order is its best piece.
    order = np.lexsort((np.arange(len(pieces)), -candidates.scores[pieces], parents))
    roots, first = np.unique(parents[order], return_index=True)
    return np.concatenate((low[roots], high[roots]), axis=1), order[first]
