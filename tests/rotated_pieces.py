"""Makes the pieces of rotated objects that tiles show of them, for tests of merging."""

from __future__ import annotations

import numpy as np

from detectors.geometry.arrays import Candidates, FloatArray
from detectors.geometry.polygons import polygon_areas, within_boxes
from detectors.geometry.rotated_boxes import enclosing, smallest_around
from detectors.merging.merge import merge
from detectors.merging.pieces import resolve_pieces
from detectors.tiling.tiles import TilePlan, TileSpec, plan_tiles, touches_inner_edge

TILE = 100
Row = tuple[FloatArray, float, int]


def plan_of(width: int, height: int, overlap: float, whole_frame: bool = False) -> TilePlan:
    """Return the tiles of a frame."""
    return plan_tiles(width, height, TileSpec(TILE, TILE, TILE, TILE, overlap, whole_frame))


def seen(plan: TilePlan, rows: list[Row]) -> Candidates:
    """Candidates from (corners, score, tile)."""
    quads = np.array([row[0] for row in rows], np.float32).reshape(-1, 4, 2)
    tiles = np.array([row[2] for row in rows], np.int32)
    regions = plan.boxes[tiles].reshape(-1, 2, 2)
    boxes = np.clip(enclosing(quads).reshape(-1, 2, 2), regions[:, :1], regions[:, 1:]).reshape(-1, 4)
    scores = np.array([row[1] for row in rows], np.float32)
    cut = touches_inner_edge(plan, boxes, tiles)
    return Candidates(boxes, scores, np.zeros(len(rows), np.int32), tiles, cut, quads)


def visible(plan: TilePlan, target: FloatArray, tile: int) -> FloatArray | None:
    """Return the smallest box around the part of ``target`` in ``tile``; None for a sliver."""
    part = within_boxes(target[None].astype(np.float64), plan.boxes[tile : tile + 1].astype(np.float64))
    if polygon_areas(part)[0] < 40:
        return None
    box = smallest_around(part[0], target)
    return box if np.linalg.norm(box[1:3] - box[:2], axis=1).min() >= 6 else None


def look(plan: TilePlan, objects: list[FloatArray], rng: np.random.Generator, error_px: float = 0.0) -> Candidates:
    """Return what a detector with errors of up to ``error_px`` finds of ``objects`` in each tile."""
    rows: list[Row] = []
    outer = enclosing(np.array(objects, np.float32))
    for tile, region in enumerate(plan.boxes):
        for target, around in zip(objects, outer, strict=True):
            # Most tiles are far from the object: they need no clipping.
            apart = (around[:2] > region[2:]).any() or (around[2:] < region[:2]).any()
            box = None if apart else visible(plan, target, tile)
            if box is not None:
                shaken = box + rng.uniform(-error_px, error_px, (1, 2)) + rng.uniform(-error_px, error_px, (4, 2)) / 4
                rows.append((shaken.astype(np.float32), float(rng.uniform(0.3, 1)), tile))
    return seen(plan, rows)


def resolved(plan: TilePlan, candidates: Candidates) -> FloatArray:
    """Return the corners of the merged objects."""
    found = merge(resolve_pieces(candidates, plan, True), "nms", "iou", 0.5, True)
    assert found.quads is not None
    return found.quads
