"""Figures of photographs against cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from training.figures import Outcome, boxes_of, class_figures
from training.metrics import Predictions, Truth

Row = tuple[float, float, float, float]
SMALL, MIDDLE, LARGE = (100, 100, 110, 105), (200, 200, 240, 220), (300, 100, 450, 200)
NOWHERE = (600, 300, 620, 320)
BORDER = (980, 300, 1000, 320)


def found(*rows: tuple[Row, float]) -> Predictions:
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    return Predictions(boxes, np.array([row[1] for row in rows], np.float32), np.zeros(len(rows), np.int64))


def picture(
    truth: tuple[Row, ...], own: Predictions, low: Predictions | None = None, ignored: tuple[Row, ...] = ()
) -> Outcome:
    return Outcome(
        width=1000,
        height=500,
        known=np.array([True, False]),
        truth=Truth(np.array(truth, np.float32).reshape(-1, 4), np.zeros(len(truth), np.int64)),
        ignored=np.array(ignored, np.float32).reshape(-1, 4),
        found=own,
        ranked=own if low is None else low,
    )


def test_precision_is_at_the_settings_of_the_card_and_ap_down_to_low_scores() -> None:
    own = found((MIDDLE, 0.9), (NOWHERE, 0.7))
    low = found((MIDDLE, 0.9), (NOWHERE, 0.7), (LARGE, 0.1))
    figures = class_figures([picture((MIDDLE, LARGE), own, low)], 0)
    assert figures is not None
    assert (figures.things, figures.right, figures.false) == (2, 1, 1)
    assert (figures.precision, figures.recall) == (0.5, 0.5)
    assert figures.false_per_megapixel == pytest.approx(1 / 0.5)
    assert figures.ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_class_that_is_labelled_nowhere_has_no_figures() -> None:
    assert class_figures([picture((), found())], 1) is None


def test_sizes_count_their_own_objects_and_their_own_false_boxes() -> None:
    figures = class_figures([picture((SMALL, MIDDLE), found((SMALL, 0.9), (MIDDLE, 0.8), (NOWHERE, 0.7)))], 0)
    assert figures is not None
    small, middle = figures.sizes["<16"], figures.sizes["32-64"]
    assert (small.things, small.precision, small.recall, small.ap50) == (1, 1.0, 1.0, pytest.approx(1.0))
    assert (middle.things, middle.precision, middle.recall) == (1, 1.0, 1.0)
    # The false box is 20 pixels long: it is false among those of 16 to 32, where no object is.
    assert figures.sizes["16-32"].precision == 0.0
    assert math.isnan(figures.sizes["16-32"].recall)
    assert math.isnan(figures.sizes["64-128"].precision)


def test_a_box_that_matches_an_object_of_another_size_is_not_false() -> None:
    # 31 pixels long on an object of 33: right in all, and neither right nor wrong in the range of the box.
    figures = class_figures([picture(((100, 100, 133, 120),), found(((100, 100, 131, 120), 0.9)))], 0)
    assert figures is not None
    assert figures.sizes["32-64"].recall == 1.0
    assert math.isnan(figures.sizes["16-32"].precision)


def test_false_boxes_at_the_edge_have_a_count_of_their_own() -> None:
    figures = class_figures([picture((), found((BORDER, 0.9), (NOWHERE, 0.8)))], 0)
    assert figures is not None
    assert (figures.false, figures.false_at_edge) == (2, 1)
    assert math.isnan(figures.recall)


def test_nothing_is_judged_within_ignored_regions() -> None:
    figures = class_figures(
        [picture((MIDDLE, LARGE), found((MIDDLE, 0.9), (NOWHERE, 0.8), (LARGE, 0.7)), None, ((150, 150, 700, 400),))], 0
    )
    assert figures is not None
    # MIDDLE and NOWHERE are inside; of LARGE one half is, which is not enough.
    assert (figures.things, figures.right, figures.false) == (1, 1, 0)


def test_figures_pool_all_pictures() -> None:
    first = picture((MIDDLE,), found((MIDDLE, 0.6)))
    second = picture((LARGE,), found((NOWHERE, 0.9)))
    figures = class_figures([first, second], 0)
    assert figures is not None
    assert (figures.pictures, figures.precision, figures.recall) == (2, 0.5, 0.5)
    # In order of score: wrong, right. Precision is 1/2 up to a recall of 0.5.
    assert figures.ap50 == pytest.approx(51 * 0.5 / 101)
    assert boxes_of([first, second], 0) == 2
