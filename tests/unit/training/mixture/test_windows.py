"""Windows: pixels and boxes stay together at any scale, and what lies beyond a picture is grey."""

import numpy as np
import pytest

from training.crops import IGNORED
from training.mixture.windows import PADDING, Picture, Window, cut_window, random_window, window_with


def picture_with(*boxes: tuple[float, float, float, float], labels: tuple[int, ...] | None = None) -> Picture:
    """Returns a black picture of 120 by 90 pixels with a white area for each box."""
    image = np.zeros((90, 120, 3), np.uint8)
    for left, top, right, bottom in boxes:
        image[int(top) : int(bottom), int(left) : int(right)] = 255
    return Picture(image, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels or [0] * len(boxes), np.int64))


@pytest.mark.parametrize(("side", "aspect"), [(30.0, 1.0), (64.0, 1.0), (80.0, 1.1), (88.0, 0.95)])
def test_boxes_follow_the_pixels_at_any_scale(side: float, aspect: float) -> None:
    crop = cut_window(picture_with((20, 30, 40, 42)), Window(12.0, 22.0, side, aspect), 64)
    left, top, right, bottom = crop.boxes[0]
    bright = crop.image.min(axis=2) > 127
    columns, rows = np.flatnonzero(bright.any(axis=0)), np.flatnonzero(bright.any(axis=1))
    found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert np.abs(np.array(found) - (left, top, right, bottom)).max() <= 1.5
    assert crop.labels.tolist() == [0]


def test_beyond_the_picture_is_grey() -> None:
    crop = cut_window(picture_with(), Window(-20.0, -10.0, 40.0), 80)
    assert (crop.image[:19] == PADDING).all()
    assert (crop.image[:, :39] == PADDING).all()
    assert (crop.image[21:, 41:] == 0).all()


def test_a_window_beside_the_picture_is_all_grey() -> None:
    crop = cut_window(picture_with((0, 0, 9, 9)), Window(500.0, 500.0, 40.0), 32)
    assert (crop.image == PADDING).all()
    assert len(crop.boxes) == 0


def test_a_box_is_kept_ignored_or_dropped_by_how_much_of_it_is_seen() -> None:
    picture = picture_with((0, 0, 40, 20), (50, 0, 70, 20))
    labels = [cut_window(picture, Window(left, 0.0, 64.0), 64).labels.tolist() for left in (10.0, 25.0, 36.0)]
    assert labels == [[0, 0], [IGNORED, 0], [0]]


def test_a_box_that_became_too_small_is_ignored() -> None:
    picture = picture_with((10, 10, 20, 20))
    assert cut_window(picture, Window(0.0, 0.0, 88.0), 32).labels.tolist() == [IGNORED]
    assert cut_window(picture, Window(0.0, 0.0, 32.0), 32).labels.tolist() == [0]


def test_an_ignored_region_stays_however_little_of_it_is_seen() -> None:
    picture = picture_with((0, 0, 100, 80), labels=(IGNORED,))
    crop = cut_window(picture, Window(95.0, 75.0, 20.0), 32)
    assert crop.labels.tolist() == [IGNORED]


def test_windows_move_into_the_picture_where_they_fit() -> None:
    picture = picture_with()
    assert Window(110.0, -7.0, 40.0).moved_inside(picture) == Window(80.0, 0.0, 40.0)
    assert Window(-5.0, -7.0, 200.0).moved_inside(picture) == Window(-5.0, -7.0, 200.0)


def test_random_windows_show_what_they_are_asked_for() -> None:
    picture = picture_with((60, 40, 70, 50))
    for seed in range(30):
        rng = np.random.default_rng(seed)
        window = window_with(picture.boxes[0], 30.0, rng)
        assert window.left <= 65 <= window.left + 30
        assert window.top <= 45 <= window.top + 30
        anywhere = random_window(picture, 30.0, rng)
        assert 0 <= anywhere.left <= 90
        assert 0 <= anywhere.top <= 60
