"""Compares merging with a reference in plain Python that compares all boxes with all."""

from __future__ import annotations

import tracemalloc
from functools import cache
from math import hypot

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.geometry import pairs
from detectors.geometry.arrays import Candidates, FloatArray
from detectors.geometry.boxes import Metric, iou_matrix
from detectors.geometry.rotated_boxes import corners_of
from detectors.merging import matching
from detectors.merging.merge import merge, suppress_within_tiles
from schemas.events import MergeMethod
from tests.harnesses.reference_merging import Case, Cluster, Point, expected, polygon_area, shape

METHODS: tuple[MergeMethod, ...] = ("nms", "greedy_nmm", "nmm", "wbf")
METRICS: tuple[Metric, ...] = ("iou", "ios")
CASES = [(method, metric, aware) for method in METHODS for metric in METRICS for aware in (True, False)]


def crowd(seed: int, count: int, spread: float = 60.0, flat: float = 0.05) -> Candidates:
    """Boxes on a coarse grid of positions and scores, so that equal boxes, touching edges and ties are common.

    ``flat``: how often width or height is 0.
    """
    rng = np.random.default_rng(seed)
    corner = np.round(rng.uniform(0, spread, (count, 2)) * 2) / 2
    sides = rng.choice([0, 1, 2, 4, 8, 30], (count, 2), p=[flat, 0.1, 0.2, 0.3, 0.3 - flat, 0.1])
    return Candidates(
        np.concatenate((corner, corner + sides), axis=1).astype(np.float32),
        np.round(rng.random(count), 1).astype(np.float32),
        rng.integers(0, 3, count, np.int32),
        rng.integers(0, 4, count, np.int32),
        np.zeros(count, np.bool_),
    )


def turned_crowd(seed: int, count: int, spread: float = 60.0) -> Candidates:
    """Rotated boxes, many of them about the same few objects, some twice; tiles clip the boxes but not the corners."""
    rng = np.random.default_rng(seed)
    objects = rng.integers(0, max(1, count // 4), count)
    centres = rng.uniform(0, spread, (count, 2))[objects] + rng.normal(0, 1.5, (count, 2))
    sizes = rng.choice([4.0, 9.0, 25.0], (count, 2))[objects] * rng.uniform(0.8, 1.25, (count, 2))
    sizes[rng.random((count, 2)) < 0.03] = 0.0
    angles = rng.uniform(-4, 4, count)[objects] + rng.normal(0, 0.2, count) + np.pi * rng.integers(0, 2, count)
    quads = corners_of(*(part.astype(np.float32) for part in (centres, sizes, angles)))
    again = rng.integers(0, count, count // 8) if count else np.empty(0, np.int64)
    quads[: len(again)] = quads[again]
    boxes = np.concatenate((quads.min(axis=1), quads.max(axis=1)), axis=1).clip(0, spread)
    return Candidates(
        boxes,
        np.round(rng.random(count), 1).astype(np.float32),
        rng.integers(0, 3, count, np.int32),
        rng.integers(0, 4, count, np.int32),
        np.zeros(count, np.bool_),
        quads,
    )


@pytest.fixture
def as_if_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small cases take the ways of large ones too: strips, chunks, several blocks of ranks, too many pairs at once."""
    monkeypatch.setattr(pairs, "DENSE_PAIRS", 0)
    monkeypatch.setattr(pairs, "CHUNK_PAIRS", 37)
    monkeypatch.setattr(matching, "FEW", 0)
    monkeypatch.setattr(matching, "FIRST_BLOCK", 4)
    monkeypatch.setattr(matching, "FIRST_SOURCES", 3)
    monkeypatch.setattr(matching, "MOST_PAIRS", 6)


def rows_of(found: Candidates) -> list[tuple[float, ...]]:
    """What came out, in order: score, tile, class, box."""
    rows = zip(found.scores, found.tiles, found.classes, found.boxes.tolist(), strict=True)
    return [(float(score), int(tile), int(index), *box) for score, tile, index, box in rows]


def expected_rows(found: Candidates, clusters: list[Cluster]) -> list[tuple[float, ...]]:
    """What should come out, in order."""
    leaders = [cluster.rows[0] for cluster in clusters]
    return [
        (
            float(np.float32(cluster.score)),
            int(found.tiles[leader]),
            int(found.classes[leader]),
            *(float(np.float32(side)) for side in cluster.box),
        )
        for cluster, leader in zip(clusters, leaders, strict=True)
    ]


@cache
def upright(seed: int, method: MergeMethod, metric: Metric, aware: bool) -> tuple[Case, list[Cluster]]:
    """A case and its reference, which takes longer than what it checks, and is the same for all ways of merging."""
    found = crowd(seed, seed % 41, spread=(8.0, 25.0, 60.0)[seed % 3])
    case = Case(found, method, metric, (0.0, 0.3, 0.5, 0.75, 1.0)[seed % 5], aware)
    return case, expected(case)


@cache
def turned(seed: int, method: MergeMethod, metric: Metric, aware: bool) -> tuple[Case, list[Cluster]]:
    """A case of rotated boxes and its reference."""
    found = turned_crowd(seed, seed % 29, spread=(15.0, 40.0)[seed % 2])
    case = Case(found, method, metric, (0.0, 0.313, 0.517, 0.761)[seed % 4], aware)
    return case, expected(case)


def assert_as_expected(case: Case, clusters: list[Cluster]) -> None:
    """``merge`` comes to what the reference does."""
    found = case.found
    merged = merge(found, case.method, case.metric, case.threshold, case.class_aware)
    assert rows_of(merged) == expected_rows(found, clusters)
    if found.quads is None:
        assert merged.quads is None
        return
    assert merged.quads is not None
    for quad, cluster in zip(merged.quads, clusters, strict=True):
        if cluster.quad is not None:
            assert np.abs(quad - cluster.quad).max() <= 1e-3
        else:
            assert_smallest_around(quad, [point for row in cluster.rows for point in shape(found, row)])
            assert_points_along(quad, found.quads[cluster.rows[0]])


def assert_smallest_around(quad: FloatArray, points: list[Point]) -> None:
    """``quad`` is a rectangle around ``points``, and none that has a side along two of them is smaller."""
    own = [(float(x), float(y)) for x, y in quad]
    size = polygon_area(own)
    for start, end in zip(own, [*own[1:], own[0]], strict=True):
        length = hypot(end[0] - start[0], end[1] - start[1])
        for x, y in points:
            inwards = (end[0] - start[0]) * (y - start[1]) - (end[1] - start[1]) * (x - start[0])
            assert inwards >= -1e-2 * length
    every = np.array(points)
    one, two = np.triu_indices(len(every), 1)
    runs = every[one] - every[two]
    runs = runs[np.hypot(*runs.T) > 1e-3]
    runs /= np.hypot(*runs.T)[:, None]
    along, across = every @ runs.T, every @ np.stack((-runs[:, 1], runs[:, 0]))
    assert size <= (np.ptp(along, axis=0) * np.ptp(across, axis=0)).min() * 1.001 + 1e-2


def assert_points_along(quad: FloatArray, like: FloatArray) -> None:
    """The first side of ``quad`` points within 45° of where that of ``like`` does."""
    ours, theirs = quad[1] - quad[0], like[1] - like[0]
    assert ours @ theirs >= 0.7 * np.linalg.norm(ours) * np.linalg.norm(theirs)


@pytest.mark.parametrize(("method", "metric", "aware"), CASES)
def test_merging_equals_the_reference(method: MergeMethod, metric: Metric, aware: bool) -> None:
    for seed in range(130):
        assert_as_expected(*upright(seed, method, metric, aware))


@pytest.mark.usefixtures("as_if_large")
@pytest.mark.parametrize(("method", "metric", "aware"), [case for case in CASES if case[0] != "wbf"])
def test_merging_by_strips_and_blocks_equals_the_reference(method: MergeMethod, metric: Metric, aware: bool) -> None:
    test_merging_equals_the_reference(method, metric, aware)


@pytest.mark.parametrize(("method", "metric", "aware"), CASES)
def test_merging_of_rotated_boxes_equals_the_reference(method: MergeMethod, metric: Metric, aware: bool) -> None:
    for seed in range(60):
        assert_as_expected(*turned(seed, method, metric, aware))


@pytest.mark.usefixtures("as_if_large")
@pytest.mark.parametrize(("method", "metric", "aware"), [case for case in CASES if case[0] != "wbf"])
def test_merging_of_rotated_boxes_by_strips_and_blocks(method: MergeMethod, metric: Metric, aware: bool) -> None:
    test_merging_of_rotated_boxes_equals_the_reference(method, metric, aware)


@pytest.mark.parametrize("metric", METRICS)
def test_fusion_of_boxes_of_all_sizes_all_over_the_frame_equals_the_reference(metric: Metric) -> None:
    rng = np.random.default_rng(3)
    for threshold in (0.05, 0.3, 0.55, 0.8):
        # From a pixel to the whole frame, each three times or so; beyond the left and upper edge of it as well.
        sides = 2.0 ** rng.uniform(0, 8, (70, 2))
        corners = rng.uniform(-50, 250, (70, 2))
        which = rng.integers(0, 70, 200)
        boxes = np.concatenate((corners, corners + sides), axis=1)[which]
        boxes += rng.normal(0, 0.05, (200, 4)) * np.tile(sides[which], 2)
        scores, tiles = rng.random(200).astype(np.float32), rng.integers(0, 4, 200, np.int32)
        nothing = np.zeros(200, np.bool_)
        found = Candidates(boxes.astype(np.float32), scores, np.zeros(200, np.int32), tiles, nothing)
        case = Case(found, "wbf", metric, threshold, class_aware=True)
        assert_as_expected(case, expected(case))
        quads = found.boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
        turn = rng.uniform(-0.1, 0.1, (200, 1, 1))
        middle = quads.mean(axis=1, keepdims=True)
        away = (quads - middle)[..., ::-1] * [-1, 1]
        moved = (middle + np.cos(turn) * (quads - middle) + np.sin(turn) * away).astype(np.float32)
        rotated = Candidates(found.boxes, scores, found.classes, tiles, nothing, moved)
        case = Case(rotated.take(np.arange(90)), "wbf", metric, threshold, class_aware=True)
        assert_as_expected(case, expected(case))


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 60), iou=st.floats(0, 1), aware=st.booleans())
@settings(max_examples=150)
def test_suppression_within_tiles_equals_the_reference(seed: int, count: int, iou: float, aware: bool) -> None:
    assert_suppressed(crowd(seed, count, spread=12.0), iou, aware)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 40), aware=st.booleans())
@settings(max_examples=60)
def test_suppression_of_rotated_boxes_within_tiles_equals_the_reference(seed: int, count: int, aware: bool) -> None:
    assert_suppressed(turned_crowd(seed, count, spread=25.0), 0.4137, aware)


@pytest.mark.usefixtures("as_if_large")
@pytest.mark.parametrize("turned", [False, True])
def test_suppression_within_tiles_by_strips_and_blocks(turned: bool) -> None:
    for seed in range(40):
        found = turned_crowd(seed, seed, spread=25.0) if turned else crowd(seed, seed, spread=12.0)
        assert_suppressed(found, 0.4137, seed % 2 == 0)


def assert_suppressed(found: Candidates, iou: float, aware: bool) -> None:
    """NMS of each tile, in the order tile, then score."""

    def meets(one: int, two: int) -> bool:
        return bool(found.tiles[one] == found.tiles[two]) and not (aware and found.classes[one] != found.classes[two])

    clusters = expected(Case(found, "nms", "iou", iou, aware), meets)
    clusters.sort(key=lambda cluster: int(found.tiles[cluster.rows[0]]))
    kept = suppress_within_tiles(found, iou, aware)
    assert rows_of(kept) == expected_rows(found, clusters)
    if found.quads is not None and kept.quads is not None:
        assert kept.quads.tolist() == [found.quads[cluster.rows[0]].tolist() for cluster in clusters]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_candidates_has_no_effect(method: MergeMethod, turned: bool) -> None:
    for seed in range(25):
        found = (turned_crowd if turned else crowd)(seed, 40, spread=20.0)
        shuffled = found.take(np.random.default_rng(seed).permutation(len(found)))
        one, two = (merge(each, method, "iou", 0.3, class_aware=seed % 2 == 0) for each in (found, shuffled))
        assert rows_of(one) == rows_of(two)
        if one.quads is not None and two.quads is not None:
            assert one.quads.tolist() == two.quads.tolist()


@pytest.mark.parametrize("method", METHODS)
def test_the_direction_of_corners_has_no_effect(method: MergeMethod) -> None:
    for seed in range(10):
        found = turned_crowd(seed, 40, spread=20.0)
        assert found.quads is not None
        # Same first corner, the others the other way round.
        back = np.roll(found.quads[:, ::-1], 1, axis=1)
        other = Candidates(found.boxes, found.scores, found.classes, found.tiles, found.cut, back)
        one, two = (merge(each, method, "iou", 0.3137, class_aware=True) for each in (found, other))
        assert rows_of(one) == rows_of(two)
        assert one.quads is not None
        assert two.quads is not None
        if method == "wbf":
            assert one.quads == pytest.approx(two.quads, abs=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_the_best_comes_first(method: MergeMethod) -> None:
    scores = merge(crowd(5, 300), method, "iou", 0.5, class_aware=False).scores
    assert len(scores) > 20
    assert (np.diff(scores) <= 0).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("turned", [False, True])
def test_nothing_merges_to_nothing(method: MergeMethod, turned: bool) -> None:
    nothing = turned_crowd(0, 0) if turned else Candidates.concatenate([])
    merged = merge(nothing, method, "iou", 0.5, class_aware=True)
    assert len(merged) == 0
    assert merged.boxes.shape == (0, 4)
    assert (merged.quads is not None and merged.quads.shape == (0, 4, 2)) is turned
    assert len(suppress_within_tiles(nothing, 0.5, class_aware=True)) == 0


@pytest.mark.parametrize("bins", [1, 3])
def test_pairs_come_exactly_once_also_from_strips(bins: int) -> None:
    rng = np.random.default_rng(bins)
    one, two = crowd(1, 300, flat=0), crowd(2, 200, flat=0)
    first, second = one.boxes.astype(np.float64), two.boxes.astype(np.float64)
    ours, theirs = rng.integers(0, bins, 300), rng.integers(0, bins, 200)
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
    boxes = crowd(3, count, flat=0).boxes.astype(np.float64)
    bins = np.random.default_rng(count).integers(0, 2, count)
    found = [
        pair
        for rows, columns in pairs.pairs_within(boxes, bins)
        for pair in zip(rows.tolist(), columns.tolist(), strict=True)
    ]
    expected = np.argwhere(np.triu(iou_matrix(boxes, boxes) > 0, 1) & (bins[:, None] == bins[None]))
    assert sorted(found) == [tuple(pair) for pair in expected.tolist()]


def test_a_crowd_of_thousands_equals_the_matrix() -> None:
    found = crowd(7, 2500, spread=250.0, flat=0)
    kept = merge(found, "nms", "iou", 0.4, class_aware=True)
    matrix = iou_matrix(kept.boxes, kept.boxes)
    np.fill_diagonal(matrix, 0)
    matrix[kept.classes[:, None] != kept.classes[None]] = 0
    assert matrix.max() <= 0.4
    gone = iou_matrix(found.boxes, kept.boxes) > 0.4
    gone &= found.classes[:, None] == kept.classes[None]
    gone &= found.scores[:, None] <= kept.scores[None]
    assert gone.any(axis=1).all()


@pytest.mark.parametrize("method", METHODS)
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
