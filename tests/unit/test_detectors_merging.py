"""Merging against a reference that compares all with all, one box at a time, in plain Python."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import pairs
from detectors.arrays import Candidates
from detectors.boxes import Metric, ios_matrix, iou_matrix
from detectors.merging import MergeMethod, merge, suppress_within_tiles

Box = tuple[float, float, float, float]


def overlap(one: Box, two: Box, metric: Metric) -> float:
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    return width * height / (areas[0] + areas[1] - width * height if metric == "iou" else min(areas))


def reference(
    found: Candidates, method: MergeMethod, metric: Metric, threshold: float, groups: list[tuple[int, ...]]
) -> list[tuple[list[float], float, int]]:
    boxes = [tuple(box) for box in found.boxes.tolist()]
    order = sorted(range(len(boxes)), key=lambda row: (-found.scores[row], found.tiles[row], row))
    answer = []
    while order:
        leader, *others = order
        taken = [
            row
            for row in others
            if groups[row] == groups[leader] and overlap(boxes[leader], boxes[row], metric) > threshold
        ]
        order = [row for row in others if row not in taken]
        box = list(boxes[leader])
        if method == "greedy_nmm":
            for row in taken:
                box = [
                    *(min(a, b) for a, b in zip(box[:2], boxes[row][:2], strict=True)),
                    *(max(a, b) for a, b in zip(box[2:], boxes[row][2:], strict=True)),
                ]
        answer.append((box, float(found.scores[leader]), int(found.classes[leader])))
    return answer


def as_list(found: Candidates) -> list[tuple[list[float], float, int]]:
    return list(zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True))


def crowd(seed: int, count: int, spread: float = 60.0) -> Candidates:
    """Boxes on a coarse grid of positions and scores, so that equal boxes, touching edges and ties are common."""
    rng = np.random.default_rng(seed)
    corner = np.round(rng.uniform(0, spread, (count, 2)) * 2) / 2
    sides = rng.choice([1, 2, 4, 8, 30], (count, 2), p=[0.1, 0.2, 0.3, 0.3, 0.1])
    return Candidates(
        np.concatenate((corner, corner + sides), axis=1).astype(np.float32),
        np.round(rng.random(count), 1).astype(np.float32),
        rng.integers(0, 3, count, np.int32),
        rng.integers(0, 4, count, np.int32),
        np.zeros(count, np.bool_),
    )


CASES = [
    (method, metric, aware) for method in ("nms", "greedy_nmm") for metric in ("iou", "ios") for aware in (True, False)
]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("method", "metric", "aware"), CASES)
def test_merging_equals_the_reference(
    method: MergeMethod, metric: Metric, aware: bool, sparse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sparse:
        # Small cases take the ways of large ones too: strips, chunks, and several blocks of ranks.
        monkeypatch.setattr(pairs, "DENSE_PAIRS", 0)
        monkeypatch.setattr(pairs, "CHUNK_PAIRS", 37)
        monkeypatch.setattr("detectors.merging.FIRST_BLOCK", 5)
        monkeypatch.setattr("detectors.merging.LARGEST_BLOCK", 11)
    for seed in range(130):
        found = crowd(seed, seed % 41, spread=(8.0, 25.0, 60.0)[seed % 3])
        threshold = (0.0, 0.3, 0.5, 0.75, 1.0)[seed % 5]
        groups = [(int(index),) if aware else () for index in found.classes]
        assert as_list(merge(found, method, metric, threshold, aware)) == reference(
            found, method, metric, threshold, groups
        )


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 60), iou=st.floats(0, 1), aware=st.booleans())
@settings(max_examples=150)
def test_suppression_within_tiles_equals_the_reference(seed: int, count: int, iou: float, aware: bool) -> None:
    found = crowd(seed, count, spread=12.0)
    groups = [(int(tile), int(index) if aware else 0) for tile, index in zip(found.tiles, found.classes, strict=True)]
    ours = suppress_within_tiles(found, iou, aware)
    assert sorted(as_list(ours)) == sorted(reference(found, "nms", "iou", iou, groups))
    assert ours.tiles.tolist() == sorted(ours.tiles.tolist())


@pytest.mark.parametrize("groups", [1, 3])
def test_pairs_come_exactly_once_also_from_strips(groups: int) -> None:
    rng = np.random.default_rng(groups)
    one, two = crowd(1, 300), crowd(2, 200)
    first, second = one.boxes.astype(np.float64), two.boxes.astype(np.float64)
    ours, theirs = rng.integers(0, groups, 300), rng.integers(0, groups, 200)
    assert len(first) * len(second) > pairs.DENSE_PAIRS
    found = [
        pair
        for rows, columns in pairs.overlapping_pairs(first, second, ours, theirs)
        for pair in zip(rows.tolist(), columns.tolist(), strict=True)
    ]
    expected = np.argwhere((iou_matrix(first, second) > 0) & (ours[:, None] == theirs[None]))
    assert sorted(found) == [tuple(pair) for pair in expected.tolist()]


@pytest.mark.parametrize("count", [0, 1, 40, 400])
def test_pairs_within_come_exactly_once_lower_index_first(count: int) -> None:
    boxes = crowd(3, count).boxes.astype(np.float64)
    groups = np.random.default_rng(count).integers(0, 2, count)
    found = [
        pair
        for rows, columns in pairs.pairs_within(boxes, groups)
        for pair in zip(rows.tolist(), columns.tolist(), strict=True)
    ]
    expected = np.argwhere(np.triu(iou_matrix(boxes, boxes) > 0, 1) & (groups[:, None] == groups[None]))
    assert sorted(found) == [tuple(pair) for pair in expected.tolist()]


def test_a_crowd_of_thousands_equals_the_matrix() -> None:
    found = crowd(7, 2500, spread=250.0)
    kept = merge(found, "nms", "iou", 0.4, class_aware=True)
    matrix = iou_matrix(kept.boxes, kept.boxes)
    np.fill_diagonal(matrix, 0)
    matrix[kept.classes[:, None] != kept.classes[None]] = 0
    assert matrix.max() <= 0.4
    gone = iou_matrix(found.boxes, kept.boxes) > 0.4
    gone &= found.classes[:, None] == kept.classes[None]
    gone &= found.scores[:, None] <= kept.scores[None]
    assert gone.any(axis=1).all()


@pytest.mark.parametrize("method", ["nms", "greedy_nmm"])
def test_memory_does_not_grow_with_the_square_of_a_crowd(method: MergeMethod) -> None:
    count = 20_000
    found = Candidates(
        np.tile(np.array([10, 10, 40, 40], np.float32), (count, 1)),
        np.linspace(1, 0.1, count, dtype=np.float32),
        np.zeros(count, np.int32),
        np.zeros(count, np.int32),
        np.zeros(count, np.bool_),
    )
    tracemalloc.start()
    merged = merge(found, method, "iou", 0.5, class_aware=True)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(merged) == 1
    # All pairs would be 400 million.
    assert peak_bytes < 250_000_000


def test_equal_scores_go_by_tile_and_then_by_place() -> None:
    boxes = np.tile(np.array([0, 0, 10, 10], np.float32), (3, 1)) + np.arange(3, dtype=np.float32)[:, None] / 10
    found = Candidates(
        boxes, np.full(3, 0.5, np.float32), np.zeros(3, np.int32), np.array([2, 1, 1], np.int32), np.zeros(3, np.bool_)
    )
    assert merge(found, "nms", "iou", 0.5, class_aware=True).boxes.tolist() == [boxes[1].tolist()]


def test_boxes_without_area_are_dropped() -> None:
    boxes = np.array([[5, 5, 5, 9], [0, 0, 4, 4], [7, 7, 6, 6]], np.float32)
    found = Candidates(
        boxes, np.ones(3, np.float32), np.zeros(3, np.int32), np.zeros(3, np.int32), np.zeros(3, np.bool_)
    )
    assert merge(found, "nms", "ios", 0.0, class_aware=True).boxes.tolist() == [[0, 0, 4, 4]]
    assert suppress_within_tiles(found, 0.5, class_aware=True).boxes.tolist() == [[0, 0, 4, 4]]


def test_matrices_of_known_boxes() -> None:
    one = np.array([[0, 0, 10, 10]], np.float32)
    two = np.array([[5, 0, 15, 10], [2, 2, 4, 4], [20, 20, 30, 30], [3, 3, 3, 8]], np.float32)
    assert iou_matrix(one, two)[0].tolist() == pytest.approx([50 / 150, 4 / 100, 0, 0])
    assert ios_matrix(one, two)[0].tolist() == pytest.approx([0.5, 1, 0, 0])
