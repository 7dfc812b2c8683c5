"""Checks which pieces at tile edges are dropped for a whole box, joined with others, or kept."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.geometry.arrays import Candidates
from detectors.geometry.boxes import iou_matrix
from detectors.merging.merge import merge
from detectors.merging.pieces import resolve_pieces
from detectors.tiling.tiles import TilePlan, TileSpec, plan_tiles, touches_inner_edge

TILE = 100
Row = tuple[list[float], float, int, int]


def plan_of(width: int, height: int, overlap: float, whole_frame: bool = False) -> TilePlan:
    return plan_tiles(width, height, TileSpec(TILE, TILE, TILE, TILE, overlap, whole_frame))


def seen(plan: TilePlan, rows: list[Row]) -> Candidates:
    """Candidates from (box, score, class, tile)."""
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    scores = np.array([row[1] for row in rows], np.float32)
    classes = np.array([row[2] for row in rows], np.int32)
    tiles = np.array([row[3] for row in rows], np.int32)
    return Candidates(boxes, scores, classes, tiles, touches_inner_edge(plan, boxes, tiles))


def resolved(plan: TilePlan, rows: list[Row], class_aware: bool = True) -> list[tuple[list[float], float]]:
    found = resolve_pieces(seen(plan, rows), plan, class_aware)
    return list(zip(found.boxes.tolist(), found.scores.astype(np.float64).round(3).tolist(), strict=True))


# Two tiles side by side: 0..100 and 80..180.
PAIR = plan_of(180, 100, 0.2)


def test_a_piece_with_a_better_score_is_dropped_for_the_whole_box() -> None:
    rows: list[Row] = [([85, 10, 100, 30], 0.9, 0, 0), ([85, 10, 110, 30], 0.5, 0, 1)]
    assert resolved(PAIR, rows) == [([85, 10, 110, 30], 0.5)]


def test_a_whole_box_of_another_class_drops_no_piece_if_class_aware() -> None:
    rows: list[Row] = [([85, 10, 100, 30], 0.9, 1, 0), ([85, 10, 110, 30], 0.5, 0, 1)]
    assert len(resolved(PAIR, rows)) == 2
    assert len(resolved(PAIR, rows, class_aware=False)) == 1


def test_a_whole_box_of_the_same_tile_drops_no_piece() -> None:
    rows: list[Row] = [([85, 10, 100, 30], 0.9, 0, 0), ([40, 5, 96, 35], 0.5, 0, 0)]
    assert len(resolved(PAIR, rows)) == 2


def test_parts_without_a_whole_box_become_one() -> None:
    rows: list[Row] = [([30, 10, 100, 30], 0.6, 0, 0), ([80, 11, 150, 31], 0.8, 0, 1)]
    assert resolved(PAIR, rows) == [([30, 10, 150, 31], 0.8)]


def test_pieces_that_do_not_agree_are_not_joined() -> None:
    rows: list[Row] = [([30, 10, 100, 30], 0.6, 0, 0), ([80, 26, 150, 50], 0.8, 0, 1)]
    assert resolved(PAIR, rows) == [([30, 10, 100, 30], 0.6), ([80, 26, 150, 50], 0.8)]


def test_a_piece_without_partner_is_kept() -> None:
    assert resolved(PAIR, [([85, 10, 100, 30], 0.9, 0, 0)]) == [([85, 10, 100, 30], 0.9)]


def test_tiles_without_overlap_join_at_their_common_edge() -> None:
    plan = plan_of(200, 100, 0.0)
    rows: list[Row] = [([60, 10, 100, 30], 0.6, 0, 0), ([100, 11, 150, 30], 0.7, 0, 1), ([101, 60, 130, 90], 0.5, 0, 1)]
    assert resolved(plan, rows) == [([60, 10, 150, 30], 0.7), ([101, 60, 130, 90], 0.5)]


def test_four_parts_around_a_corner_become_one() -> None:
    plan = plan_of(180, 180, 0.2)
    rows: list[Row] = [
        ([40, 50, 100, 100], 0.9, 0, 0),
        ([80, 50, 140, 100], 0.8, 0, 1),
        ([40, 80, 100, 130], 0.7, 0, 2),
        ([80, 80, 140, 130], 0.6, 0, 3),
    ]
    assert resolved(plan, rows) == [([40, 50, 140, 130], 0.9)]


def test_the_whole_frame_tile_drops_all_pieces() -> None:
    plan = plan_of(180, 100, 0.2, whole_frame=True)
    rows: list[Row] = [
        ([30, 10, 100, 30], 0.9, 0, 0),
        ([80, 10, 150, 30], 0.8, 0, 1),
        ([31, 10, 149, 30], 0.5, 0, 2),
    ]
    assert resolved(plan, rows) == [([31, 10, 149, 30], 0.5)]


def test_no_fragments_no_change() -> None:
    found = seen(PAIR, [([10, 10, 30, 30], 0.9, 0, 0)])
    assert resolve_pieces(found, PAIR, True) is found
    assert len(resolve_pieces(seen(PAIR, []), PAIR, True)) == 0


def scene(rng: np.random.Generator, frame: int, largest: int) -> np.ndarray:
    """Boxes that keep a distance to each other, float32 (N, 4)."""
    kept: list[np.ndarray] = []
    for _ in range(25):
        sides = rng.uniform(12, largest, 2)
        corner = rng.uniform(0, frame - sides)
        box = np.concatenate((corner, corner + sides))
        if all(iou_matrix((box + np.array([-9, -9, 9, 9]))[None], other[None])[0, 0] == 0 for other in kept):
            kept.append(box)
    return np.array(kept, np.float32)


@pytest.mark.parametrize(("overlap", "largest"), [(0.2, 18), (0.2, 240), (0.4, 150), (0.0, 120)])
def test_every_object_is_found_once_wherever_tiles_cut_it(overlap: float, largest: int) -> None:
    """A perfect detector that errs by up to a pixel: each tile reports the visible part of each object."""
    plan = plan_of(430, 430, overlap)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        objects = scene(rng, 430, largest)
        rows: list[Row] = []
        for tile, region in enumerate(plan.boxes):
            for box in objects:
                low, high = np.maximum(box[:2], region[:2]), np.minimum(box[2:], region[2:])
                # Slivers are what a detector does not see.
                if (high - low).min() < 6:
                    continue
                shaken = np.concatenate((low, high)) + rng.uniform(-1, 1, 4)
                shaken = np.clip(shaken, [*region[:2], *region[:2]], [*region[2:], *region[2:]])
                rows.append((shaken.tolist(), float(rng.uniform(0.3, 1)), 0, tile))
        found = merge(resolve_pieces(seen(plan, rows), plan, True), "nms", "iou", 0.5, True)
        assert len(found) == len(objects), f"seed {seed}"
        assert iou_matrix(objects, found.boxes).max(axis=1).min() > 0.6
