"""C-S1-037: boxes that are smaller than any may be are left out, by their area in square pixels of the frame."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from console.jobs.config import JobConfig
from console.jobs.options import detect_options
from detectors.card.card import ThresholdCard
from detectors.geometry.arrays import Candidates
from detectors.geometry.rotated_boxes import corners_of, enclosing
from detectors.merging.sizes import with_area
from detectors.model.options import FrameView, resolve
from schemas.events import DetectOptions
from standgale.testing.factories import model_card


def candidates(boxes: list[tuple[float, float, float, float]], quads: np.ndarray | None = None) -> Candidates:
    count = len(boxes)
    return Candidates(
        np.array(boxes, np.float32).reshape(count, 4),
        np.linspace(1, 0.5, count, dtype=np.float32),
        np.zeros(count, np.int32),
        np.zeros(count, np.int32),
        np.zeros(count, np.bool_),
        quads,
    )


def test_with_area_keeps_boxes_of_the_least_area_and_their_order() -> None:
    found = candidates([(0, 0, 10, 10), (5, 5, 14, 16), (0, 0, 9, 11), (3, 3, 3, 50)])
    assert with_area(found, 100).boxes.tolist() == [[0, 0, 10, 10]]
    assert with_area(found, 99).scores.tolist() == found.scores[:3].tolist()
    assert with_area(found, 0) is found
    assert len(with_area(candidates([]), 100)) == 0


def test_with_area_takes_the_area_of_a_rotated_box_and_not_what_encloses_it() -> None:
    centres, sizes = np.array([(50, 50), (50, 50)], np.float32), np.array([(40, 2), (40, 4)], np.float32)
    quads = corners_of(centres, sizes, np.full(2, np.pi / 4, np.float32))
    found = candidates([tuple(row) for row in enclosing(quads).tolist()], quads)
    assert (found.boxes[0, 2] - found.boxes[0, 0]) ** 2 > 800
    assert with_area(found, 100).scores.tolist() == found.scores[1:].tolist()


def test_the_least_area_is_that_of_the_frame_else_that_of_the_card() -> None:
    view = FrameView(640, 480)
    plain, card = model_card(), model_card(thresholds=ThresholdCard(min_box_px=100))
    assert resolve(plain, DetectOptions(), view).min_box_px == 0
    assert resolve(card, DetectOptions(), view).min_box_px == 100
    asked = resolve(card, DetectOptions(min_box_px=0), view)
    assert asked.min_box_px == 0
    assert resolve(card, asked.as_options(), view) == asked


def test_a_job_asks_for_the_least_area_of_its_frames() -> None:
    assert detect_options(JobConfig(min_box_px=64)).min_box_px == 64
    with pytest.raises(ValidationError):
        JobConfig(min_box_px=-1)
