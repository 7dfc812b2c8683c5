"""Merges boxes that show the same object: suppression (NMS), union (NMM, greedy NMM), weighted box fusion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detectors.geometry.arrays import BoolArray, Candidates, DoubleArray, FloatArray, IndexArray
from detectors.geometry.boxes import Metric
from detectors.geometry.quads import quad_areas
from detectors.geometry.rotated_boxes import smallest_around
from detectors.merging.fusion import fuse_boxes
from detectors.merging.matching import Shapes, chained_owners, greedy_owners
from detectors.merging.sizes import fits_size
from schemas.events import MergeMethod


def ranking(candidates: Candidates) -> IndexArray:
    """Return int64 (K,): the order of ``candidates`` by score, best first; ties by tile, then by place in the frame.

    The place is that of the upper edge, then left, lower and right edge, then the class, then the corners of quads: all
    that distinguishes boxes, so that the order of the candidates has no effect.
    """
    order = np.lexsort((candidates.tiles, -candidates.scores))
    scores, tiles = candidates.scores[order], candidates.tiles[order]
    same = (scores[1:] == scores[:-1]) & (tiles[1:] == tiles[:-1])
    if same.any():
        tied = np.zeros(len(order), np.bool_)
        tied[1:] = same
        tied[:-1] |= same
        rows = order[tied]
        order[tied] = rows[np.lexsort(_places(candidates.take(rows)))]
    return order


def merge(
    candidates: Candidates,
    method: MergeMethod,
    metric: Metric,
    threshold: float,
    class_aware: bool,
    largest: DoubleArray | None = None,
) -> Candidates:
    """Return one box for each cluster of boxes that show the same object, best first, ties as in :func:`ranking`.

    Two boxes match when they overlap by more than ``threshold``; of rotated boxes their quads overlap. With
    ``class_aware`` boxes of different classes never match. Boxes without area are dropped. The best box of a cluster
    gives it its class and tile, and unless fused its score. The result does not depend on the order of ``candidates``.

    ``nms``: the best box absorbs all that match it, then the best of the rest, and so on; it stays as it is.
    ``greedy_nmm``: the same clusters, but a cluster's box is the union of its boxes (non-maximum merging).
    ``nmm``: each box, best first, joins the cluster of the best box before it that matches it, also when that is not
    the best of its cluster; a box that none before it matches begins a cluster. The result is the union too. So a
    cluster may be a chain, but a later box that matches members of two clusters does not join these two.
    ``wbf``: see :func:`detectors.merging.fusion.fuse_boxes`.

    The union of rotated boxes is the rotated box of least area around all their corners, with the front of the best
    box; ``boxes`` are then the union of the boxes, each clipped to its tile. Where a union is larger than its class can
    be (``largest``, float64 (classes,), see :func:`detectors.merging.sizes.largest_px`), the best box stays as it is.
    """
    ranked = _ranked(candidates)
    shapes = Shapes.of(ranked, _classes(ranked, class_aware), metric, threshold)
    if method == "wbf":
        return _ranked(fuse_boxes(ranked, shapes))
    owners = chained_owners(shapes) if method == "nmm" else greedy_owners(shapes)
    survivors = np.flatnonzero(owners == np.arange(len(owners)))
    kept = ranked.take(survivors)
    if method == "nms":
        return kept
    grown = _grown(ranked, kept, owners, survivors)
    return grown if largest is None else _where(fits_size(grown, largest), grown, kept)


def suppress_within_tiles(candidates: Candidates, iou: float, class_aware: bool) -> Candidates:
    """Suppress by NMS (IoU) the duplicates within each tile. Returns boxes in the order of tiles, then of scores.

    ``iou`` in 0..1: boxes (of rotated ones the quads) of one tile (and class, if ``class_aware``) that overlap by more
    are one object.
    """
    if not len(candidates):
        return candidates
    ranked = _ranked(candidates)
    bins = ranked.tiles.astype(np.int64)
    bins -= bins.min(initial=0)
    if class_aware:
        bins = bins * (int(ranked.classes.max(initial=0)) + 1) + ranked.classes
    owners = greedy_owners(Shapes.of(ranked, bins, "iou", iou))
    survivors = np.flatnonzero(owners == np.arange(len(owners)))
    return ranked.take(survivors[np.argsort(ranked.tiles[survivors], kind="stable")])


def _ranked(candidates: Candidates) -> Candidates:
    """Return ``candidates`` with area, best first."""
    solid = _solid(candidates)
    order = ranking(candidates)
    return candidates.take(order if solid.all() else order[solid[order]])


def _solid(candidates: Candidates) -> BoolArray:
    """Return bool (K,): which boxes have an area, within their tile, and quads, too."""
    boxes = candidates.boxes
    solid: BoolArray = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if candidates.quads is not None:
        solid &= quad_areas(candidates.quads) > 0
    return solid


def _places(candidates: Candidates) -> tuple[FloatArray | IndexArray, ...]:
    """Return keys for lexsort, the last counts most: score, tile, place, class, corners, and ``cut``."""
    left, top, right, bottom = candidates.boxes.T
    corners = () if candidates.quads is None else tuple(candidates.quads.reshape(len(candidates), 8).T)
    keys = (candidates.classes, right, bottom, left, top, candidates.tiles, -candidates.scores)
    return (candidates.cut.astype(np.int64), *corners, *(np.asarray(key) for key in keys))


def _classes(candidates: Candidates, class_aware: bool) -> IndexArray:
    return candidates.classes.astype(np.int64) if class_aware else np.zeros(len(candidates), np.int64)


def _grown(ranked: Candidates, kept: Candidates, owners: IndexArray, survivors: IndexArray) -> Candidates:
    """Return ``kept`` (of ``ranked`` the ``survivors``) with the union of all boxes that each of them owns."""
    boxes = ranked.boxes.copy()
    np.minimum.at(boxes[:, :2], owners, ranked.boxes[:, :2])
    np.maximum.at(boxes[:, 2:], owners, ranked.boxes[:, 2:])
    quads = kept.quads if ranked.quads is None else _around(ranked.quads, owners)[survivors]
    return Candidates(boxes[survivors], kept.scores, kept.classes, kept.tiles, kept.cut, quads)


def _where(chosen: BoolArray, grown: Candidates, kept: Candidates) -> Candidates:
    """Return ``grown`` where ``chosen``, else ``kept``; they differ in boxes and quads only."""
    boxes = np.where(chosen[:, None], grown.boxes, kept.boxes)
    if grown.quads is None or kept.quads is None:
        return replace(kept, boxes=boxes)
    return replace(kept, boxes=boxes, quads=np.where(chosen[:, None, None], grown.quads, kept.quads))


def _around(quads: FloatArray, owners: IndexArray) -> FloatArray:
    """Return ``quads`` (float32 (N, 4, 2)), each with the quads it owns replaced by the smallest box around them."""
    around = quads.copy()
    order = np.argsort(owners, kind="stable")
    leaders, begins, counts = np.unique(owners[order], return_index=True, return_counts=True)
    for leader, begin, count in zip(leaders.tolist(), begins.tolist(), counts.tolist(), strict=True):
        if count > 1:
            corners = quads[order[begin : begin + count]].astype(np.float64)
            around[leader] = smallest_around(corners.reshape(-1, 2), quads[leader])
    return around
