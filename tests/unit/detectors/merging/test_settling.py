"""Checks which boxes of different classes on one thing are settled, and that things in front of others stay."""

from __future__ import annotations

import time

import numpy as np
import pytest

from detectors.geometry.arrays import Candidates
from detectors.merging.settling import settle_classes, without_fragments
from detectors.tiling.tiles import TilePlan, TileSpec, plan_tiles, touches_inner_edge

BUS, TRAIN, PERSON = 0, 1, 2
Row = tuple[list[float], float, int, int]
# Two tiles side by side, 0..100 and 80..180, then the whole frame.
PLAN = plan_tiles(180, 100, TileSpec(100, 100, 100, 100, 0.2, whole_frame=True))
WHOLE = 2


def seen(rows: list[Row], plan: TilePlan = PLAN) -> Candidates:
    """Candidates from (box, score, class, tile)."""
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    scores = np.array([row[1] for row in rows], np.float32)
    classes = np.array([row[2] for row in rows], np.int32)
    tiles = np.array([row[3] for row in rows], np.int32)
    return Candidates(boxes, scores, classes, tiles, touches_inner_edge(plan, boxes, tiles))


A_BUS: Row = ([20, 20, 160, 80], 0.9, BUS, WHOLE)


@pytest.mark.parametrize(
    "fragment",
    [
        # It fills what its tile sees of the bus.
        ([22, 22, 100, 78], 0.8, TRAIN, 0),
        ([80, 25, 158, 80], 0.5, TRAIN, 1),
        # It does not, and is far less sure.
        ([90, 60, 100, 80], 0.3, TRAIN, 0),
    ],
)
def test_a_fragment_of_a_thing_found_whole_is_dropped(fragment: Row) -> None:
    kept = without_fragments(seen([fragment, A_BUS]), PLAN)
    assert kept.classes.tolist() == [BUS]


@pytest.mark.parametrize(
    "other",
    [
        # A person before the bus, cut by a tile's edge, and one that no edge cuts.
        ([85, 40, 100, 85], 0.6, PERSON, 0),
        ([40, 50, 50, 78], 0.3, PERSON, 0),
        # The tile's edge cuts it, but the bus ends before that edge.
        ([85, 0, 100, 18], 0.3, PERSON, 0),
        # Of the same class: pieces are joined and dropped by other rules.
        ([22, 22, 100, 78], 0.8, BUS, 0),
        # So sure that the bus may be the wrong one.
        ([22, 22, 100, 78], 0.99, TRAIN, 0),
    ],
)
def test_a_thing_before_a_large_one_is_no_fragment(other: Row) -> None:
    large = ([20, 20, 160, 80], 0.45 if other[1] == 0.99 else 0.9, BUS, WHOLE)
    found = seen([other, large])
    assert without_fragments(found, PLAN) is found


def test_a_piece_is_settled_by_a_neighbouring_tile_that_saw_the_thing_whole() -> None:
    truck_as_car: Row = ([84, 40, 100, 60], 0.8, TRAIN, 0)
    whole: Row = ([84, 40, 120, 60], 0.7, BUS, 1)
    assert without_fragments(seen([truck_as_car, whole]), PLAN).classes.tolist() == [BUS]


def settled(rows: list[Row], threshold: float = 0.7) -> list[int]:
    rows = sorted(rows, key=lambda row: -row[1])
    return settle_classes(seen(rows), threshold).classes.tolist()


def test_equal_boxes_of_different_classes_become_the_best() -> None:
    rows: list[Row] = [A_BUS, ([21, 21, 160, 80], 0.5, TRAIN, WHOLE), ([18, 20, 158, 82], 0.4, PERSON, WHOLE)]
    assert settled(rows) == [BUS]
    assert settled(rows, threshold=1.0) == [BUS, TRAIN, PERSON]


def test_boxes_inside_others_and_of_the_same_class_are_not_settled() -> None:
    person: Row = ([60, 30, 80, 80], 0.8, PERSON, WHOLE)
    near: Row = ([25, 22, 165, 82], 0.7, BUS, WHOLE)
    assert settled([A_BUS, person, near]) == [BUS, PERSON, BUS]


def test_a_box_that_is_removed_removes_no_other() -> None:
    """Each overlaps the next by 0.75 and the one after that by 0.55."""
    rows: list[Row] = [([20 * step, 0, 20 * step + 140, 50], 0.9 - step / 10, step, WHOLE) for step in range(3)]
    assert settled(rows) == [0, 2]


def test_settling_of_33_000_boxes_is_fast() -> None:
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 20_000, (33_000, 2)).astype(np.float32)
    boxes = np.concatenate((corners, corners + rng.uniform(10, 60, (33_000, 2)).astype(np.float32)), axis=1)
    scores = np.sort(rng.random(33_000).astype(np.float32))[::-1].copy()
    zeros = np.zeros(33_000, np.int32)
    found = Candidates(boxes, scores, rng.integers(0, 80, 33_000, np.int32), zeros, zeros.astype(bool))
    start = time.process_time()
    kept = settle_classes(found, 0.7)
    assert 32_000 < len(kept) < 33_000
    assert time.process_time() - start < 3.0
