"""Merging boxes that show the same thing: greedy suppression (NMS) and greedy union (greedy NMM), near linear."""

from __future__ import annotations

import numpy as np

from detectors.arrays import Candidates, DoubleArray, IndexArray
from detectors.boxes import Metric, overlaps
from detectors.pairs import overlapping_pairs, pairs_within
from schemas.events import MergeMethod

# The best boxes are decided first and in small numbers, so that a crowd of duplicates is gone before it costs pairs.
FIRST_BLOCK = 1024
LARGEST_BLOCK = 4096


def ranking(candidates: Candidates) -> IndexArray:
    """int64 (K,): the order of ``candidates`` by score, best first; equal scores by tile, then by place."""
    return np.lexsort((candidates.tiles, -candidates.scores))


def greedy_owners(boxes: DoubleArray, groups: IndexArray, metric: Metric, threshold: float) -> IndexArray:
    """Who absorbs whom when the best box takes all that overlap it by more than ``threshold``, then the next best.

    boxes: float64 (N, 4) xyxy with positive sides, best first; groups: int64 (N,), boxes of different groups never
    meet. Returns int64 (N,): the index of the box that absorbs each box; a survivor owns itself. A box is compared
    with the survivors as they are, not as they grow.
    """
    owners = np.full(len(boxes), -1, np.int64)
    alive = np.arange(len(boxes))
    block = FIRST_BLOCK
    while alive.size:
        head, rest = alive[:block], alive[block:]
        survivors = _decide(boxes, groups, metric, threshold, head, owners)
        if rest.size:
            claimed = np.full(len(rest), len(boxes), np.int64)
            for one, two in overlapping_pairs(boxes[survivors], boxes[rest], groups[survivors], groups[rest]):
                match = overlaps(boxes[survivors[one]], boxes[rest[two]], metric) > threshold
                np.minimum.at(claimed, two[match], survivors[one[match]])
            taken = claimed < len(boxes)
            owners[rest[taken]] = claimed[taken]
            rest = rest[~taken]
        alive = rest
        block = min(2 * block, LARGEST_BLOCK)
    return owners


def _decide(
    boxes: DoubleArray, groups: IndexArray, metric: Metric, threshold: float, head: IndexArray, owners: IndexArray
) -> IndexArray:
    """Settle ``head`` (indices, best first) among itself: writes ``owners`` of all of it, returns the survivors."""
    ours, kin = boxes[head], groups[head]
    better: list[IndexArray] = []
    worse: list[IndexArray] = []
    for one, two in pairs_within(ours, kin):
        match = overlaps(ours[one], ours[two], metric) > threshold
        better.append(one[match].astype(np.int32))
        worse.append(two[match].astype(np.int32))
    taken = np.full(len(head), -1, np.int64)
    if any(part.size for part in better):
        first, second = np.concatenate(better), np.concatenate(worse)
        order = np.argsort(first, kind="stable")
        first, second = first[order], second[order]
        places = np.flatnonzero(np.diff(first, prepend=-1))
        for place, end in zip(places.tolist(), [*places[1:].tolist(), len(first)], strict=True):
            leader = first[place]
            if taken[leader] < 0:
                members = second[place:end]
                taken[members[taken[members] < 0]] = leader
    survived = taken < 0
    owners[head] = head[np.where(survived, np.arange(len(head)), taken)]
    return head[survived]


def merge(
    candidates: Candidates, method: MergeMethod, metric: Metric, threshold: float, class_aware: bool
) -> Candidates:
    """One box for each group of boxes that show the same thing, best score first.

    ``nms`` keeps the best box of a group as it is; ``greedy_nmm`` gives it the union of the group. Score, class and
    tile are the best box's. With ``class_aware`` boxes of different classes never meet. Boxes without area are dropped.
    """
    solid = (candidates.boxes[:, 2:] > candidates.boxes[:, :2]).all(axis=1)
    ranked = candidates.take(np.flatnonzero(solid))
    ranked = ranked.take(ranking(ranked))
    groups = ranked.classes.astype(np.int64) if class_aware else np.zeros(len(ranked), np.int64)
    owners = greedy_owners(ranked.boxes.astype(np.float64), groups, metric, threshold)
    survivors = np.flatnonzero(owners == np.arange(len(owners)))
    kept = ranked.take(survivors)
    if method == "nms":
        return kept
    grown = ranked.boxes.copy()
    np.minimum.at(grown[:, :2], owners, ranked.boxes[:, :2])
    np.maximum.at(grown[:, 2:], owners, ranked.boxes[:, 2:])
    return Candidates(grown[survivors], kept.scores, kept.classes, kept.tiles, kept.cut)


def suppress_within_tiles(candidates: Candidates, iou: float, class_aware: bool) -> Candidates:
    """NMS (IoU) of each tile by itself: a model's many answers to one thing become one. In the order tile, then score.

    ``iou`` in 0..1: boxes of one tile (and class, if ``class_aware``) that overlap by more are one thing.
    """
    if len(candidates) < 2:
        return candidates
    solid = (candidates.boxes[:, 2:] > candidates.boxes[:, :2]).all(axis=1)
    ranked = candidates.take(np.flatnonzero(solid))
    ranked = ranked.take(ranking(ranked))
    groups = ranked.tiles.astype(np.int64) - int(ranked.tiles.min(initial=0))
    if class_aware:
        groups = groups * (int(ranked.classes.max(initial=0)) + 1) + ranked.classes
    owners = greedy_owners(ranked.boxes.astype(np.float64), groups, "iou", iou)
    survivors = np.flatnonzero(owners == np.arange(len(owners)))
    return ranked.take(survivors[np.argsort(ranked.tiles[survivors], kind="stable")])
