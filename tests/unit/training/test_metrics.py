"""Metrics against cases worked out by hand."""

import numpy as np
import pytest

from training.metrics import (
    Predictions,
    Truth,
    average_precision,
    best_confidence,
    judge,
    match,
    measure,
    precision_recall,
)

A, B, FAR = (0, 0, 10, 10), (20, 20, 30, 30), (50, 50, 60, 60)


def predictions(*rows: tuple[tuple[float, ...], float, int]) -> Predictions:
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    scores = np.array([row[1] for row in rows], np.float32)
    return Predictions(boxes, scores, np.array([row[2] for row in rows], np.int64))


def there(*rows: tuple[tuple[float, ...], int]) -> Truth:
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    return Truth(boxes, np.array([row[1] for row in rows], np.int64))


def test_object_is_matched_once_by_the_most_confident_prediction() -> None:
    overlap = np.array([[0.8], [0.9]], np.float32)
    right = match(overlap, np.array([0.7, 0.6], np.float32), (0.5, 0.85))
    assert right.tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize(
    ("right", "objects", "expected"),
    [
        ([True, True], 2, 1.0),
        ([], 3, 0.0),
        ([False, False], 2, 0.0),
        # Recall 0.5 is reached at precision 1: recalls 0 to 0.50 are 51 of 101 points.
        ([True, False], 2, 51 / 101),
        # Precisions 1/2 then 2/3, raised to 2/3 over both objects.
        ([False, True, True], 2, 2 / 3),
        # 51 points at precision 1, the other 50 at 2/3.
        ([True, False, True], 2, (51 + 50 * 2 / 3) / 101),
    ],
)
def test_average_precision_of_known_cases(right: list[bool], objects: int, expected: float) -> None:
    assert average_precision(np.array(right, np.bool_), objects) == pytest.approx(expected)


def test_precision_and_recall_count_only_scores_above_confidence() -> None:
    right, scores = np.array([True, False, True]), np.array([0.9, 0.8, 0.3], np.float32)
    assert precision_recall(right, scores, 4, 0.5) == (0.5, 0.25)
    assert precision_recall(right, scores, 4, 0.95) == (0.0, 0.0)


def test_a_prediction_on_an_ignored_object_is_neither_right_nor_wrong() -> None:
    overlap = np.array([[0.6, 0.9], [0.0, 0.8], [0.7, 0.0]], np.float32)
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    right, void = judge(overlap, scores, (0.5,), np.array([False, True]))
    # The first takes the object that counts, though it overlaps the ignored one more; the third finds it taken.
    assert right.tolist() == [[True, False, False]]
    assert void.tolist() == [[False, True, False]]


def test_measure_averages_over_classes_that_occur() -> None:
    images = [
        (predictions((A, 0.9, 0), (FAR, 0.8, 0), (B, 0.7, 1)), there((A, 0), (B, 1))),
        (predictions(), there((B, 1))),
    ]
    metrics = measure(images, ("car", "boat", "kite"), 0.5)
    car, boat, kite = metrics.classes
    assert (car.ap50, car.precision, car.recall, car.objects) == (pytest.approx(1.0), 0.5, 1.0, 1)
    assert (boat.ap50, boat.precision, boat.recall, boat.objects) == (pytest.approx(51 / 101), 1.0, 0.5, 2)
    assert kite.objects == 0
    assert np.isnan(kite.ap50)
    assert metrics.map50 == pytest.approx((1 + 51 / 101) / 2)
    assert metrics.recall == pytest.approx(0.75)


def test_measure_reads_precision_at_the_confidence_of_each_class() -> None:
    images = [(predictions((A, 0.9, 0), (FAR, 0.8, 0), (B, 0.7, 1)), there((A, 0), (B, 1)))]
    car, boat = measure(images, ("car", "boat"), (0.85, 0.75)).classes
    assert (car.precision, car.recall) == (1.0, 1.0)
    assert (boat.precision, boat.recall) == (0.0, 0.0)


def test_measure_reads_precision_from_what_the_detector_itself_gives() -> None:
    truth = there((A, 0), (B, 1))
    ranked = [(predictions((A, 0.9, 0), (B, 0.7, 1)), truth)]
    car, boat = measure(ranked, ("car", "boat"), 0.5, [(predictions((B, 0.7, 1), (FAR, 0.6, 1)), truth)]).classes
    assert (car.precision, car.recall, car.ap50) == (0.0, 0.0, pytest.approx(1.0))
    assert (boat.precision, boat.recall, boat.ap50) == (0.5, 1.0, pytest.approx(1.0))


def test_stricter_overlaps_lower_the_mean_over_ious() -> None:
    # IoU of 0.8 is right at 0.50 to 0.80: seven of ten thresholds.
    metrics = measure([(predictions(((0, 0, 10, 8), 0.9, 0)), there((A, 0)))], ("car",), 0.5)
    assert metrics.map50 == pytest.approx(1.0)
    assert metrics.map50_95 == pytest.approx(0.7)


def test_a_prediction_does_not_find_an_object_of_another_image_or_class() -> None:
    images = [(predictions((A, 0.9, 1)), there((A, 0))), (predictions((A, 0.9, 0)), there())]
    assert measure(images, ("car", "boat"), 0.5).map50 == 0.0


def test_best_confidence_drops_the_false_alarms() -> None:
    images = [(predictions((A, 0.9, 0), (B, 0.6, 0), (FAR, 0.4, 0)), there((A, 0), (B, 0)))]
    assert 0.4 < best_confidence(images, 1) <= 0.6
