"""Sentences about how far results on own pictures can be trusted, and the picture of a result."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from detectors.card.card import ClassCard, ModelCard, TilingCard
from schemas.events import DetectionsMade, DetectOptions
from standgale.demo.result_picture import best_frame, draw_result
from standgale.demo.trust import describe_trust
from standgale.testing.factories import detections_made, image_ref, model_card

VEHICLE = ClassCard(name="vehicle", evidence="photographs", color="#ff0000")
BIRD = ClassCard(name="bird", evidence="drawn")


def card(*classes: ClassCard, tiling: TilingCard | None = None) -> ModelCard:
    return model_card(classes=classes, tiling=tiling or TilingCard())


def test_classes_are_named_by_what_they_were_tested_on() -> None:
    assert describe_trust(card(VEHICLE, BIRD), []) == [
        "tested on photographs: vehicle",
        "not tested on photographs: bird; look at each before you rely on it",
    ]
    (line,) = describe_trust(card(ClassCard(name="kite")), [])
    assert line.startswith("the model card does not state what its classes were tested on")


def test_pictures_of_another_scale_than_the_tested_ones_are_named() -> None:
    known = card(VEHICLE, tiling=TilingCard(gsd_m=(0.05, 0.5), object_px=(8, 250)))
    fine, coarse = detections_made(gsd_m=0.1, labels=()), detections_made(gsd_m=2.0, original_filename="high.jpg")
    # Boxes of half the picture: 2,000 x 1,500 px.
    near = detections_made(gsd_m=None, original_filename="near.jpg")
    unknown = detections_made(gsd_m=None, labels=())
    lines = describe_trust(known, [fine, coarse, near, unknown])[1:]
    assert lines == [
        "high.jpg: 2 m on the ground per pixel, the model was tested at 0.05 to 0.5; its results may be wrong",
        "near.jpg: most boxes are larger than the 250 px that the model was tested with; if its objects fill the "
        "picture, make it smaller or try another model",
    ]
    many = describe_trust(known, [near] * 14)
    assert len(many) == 12
    assert many[-1] == "and 4 more pictures like these"


def test_pictures_that_fit_at_one_used_scale_are_not_named() -> None:
    known = card(VEHICLE, tiling=TilingCard(gsd_m=(0.05, 0.5), object_px=(8, 250)))
    half = DetectOptions(scales=(1.0, 0.5))
    fine, near = detections_made(gsd_m=0.03, labels=(), options=half), detections_made(gsd_m=None, options=half)
    assert describe_trust(known, [fine])[1:] == []
    # Boxes of 2,000 px are too large at half the size, too.
    assert len(describe_trust(known, [near])) == 2
    assert describe_trust(known, [near.model_copy(update={"options": DetectOptions(scales=(0.1,))})])[1:] == []


def test_best_frame_counts_detections_of_tested_classes_first() -> None:
    birds, vehicle = detections_made(0, labels=("bird",) * 5), detections_made(1, labels=("bird", "vehicle"))
    assert best_frame([birds, vehicle], [VEHICLE, BIRD]) == vehicle
    assert best_frame([vehicle, birds], [BIRD]) == birds
    assert best_frame([detections_made(labels=())], [BIRD]) is None
    assert best_frame([], [BIRD]) is None


def test_drawn_result_has_the_boxes_in_the_colours_of_the_card(tmp_path: Path) -> None:
    data = cv2.imencode(".png", np.zeros((300, 400, 3), np.uint8))[1].tobytes()
    event = DetectionsMade.model_validate(
        detections_made(labels=("vehicle", "other")).model_dump() | {"image": image_ref(data, width=400, height=300)}
    )
    draw_result(tmp_path / "result.jpg", data, event, [VEHICLE], max_pixels=1_000_000)
    drawn = cv2.imread(str(tmp_path / "result.jpg"))
    assert drawn is not None
    assert drawn.shape == (300, 400, 3)
    edge = drawn[225, 98:103].astype(int)  # the left side of the box is at a quarter of the width
    assert (edge[:, 2] - edge[:, 0]).max() > 100
    assert drawn[20, 20].max() < 20
