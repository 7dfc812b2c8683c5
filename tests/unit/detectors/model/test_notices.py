"""Checks which warnings a picture gets, and that a usual one from above gets none."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.card.card import ModelCard
from detectors.geometry.arrays import Detections
from detectors.model.notices import Shown, nothing_found, notices
from detectors.model.options import FrameView, resolve
from schemas.events import DetectOptions
from standgale.testing.factories import model_card

VEHICLE, BOAT = 0, 1
Box = tuple[float, float, float, float]
SHOWN = Shown(1000, 800)
SMALL: list[Box] = [(100, 100, 140, 120), (300, 300, 340, 330), (500, 100, 520, 140)]


def card(**tiling: object) -> ModelCard:
    return model_card(
        input={"width": 320, "height": 320},
        classes=[
            {"name": "vehicle", "evidence": "photographs", "max_size_m": 20},
            {"name": "boat", "evidence": "drawn"},
        ],
        tiling={"object_px": [10, 200], "gsd_m": [0.05, 0.2], **tiling},
    )


def found(boxes: list[Box], label: int = VEHICLE) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.full(count, 0.9, np.float32), np.full(count, label, np.int32)
    )


def warned(boxes: list[Box], asked: DetectOptions, gsd_m: float | None = None, shown: Shown = SHOWN) -> str:
    known = card()
    options = resolve(known, asked, FrameView(shown.width, shown.height, gsd_m))
    return "\n".join(notices(known, options, found(boxes), shown))


def test_a_usual_picture_from_above_gets_no_warning() -> None:
    assert not warned(SMALL, DetectOptions(), 0.1, Shown(1000, 800, -90))
    assert not warned([], DetectOptions())


def test_a_camera_that_looks_to_the_horizon_gives_a_warning() -> None:
    text = warned(SMALL, DetectOptions(), shown=Shown(1000, 800, -20))
    assert text.startswith("not from above: the camera looked at -20°")
    assert "--mode whole" in text


def test_sky_counts_where_the_pitch_is_unknown() -> None:
    assert warned(SMALL, DetectOptions(), shown=Shown(1000, 800, None, sky=True)).startswith("perhaps not from above")
    assert not warned(SMALL, DetectOptions(), shown=Shown(1000, 800, -90, sky=True))


@pytest.mark.parametrize("box", [(10, 10, 310, 300), (0, 0, 1000, 800)])
def test_boxes_as_large_as_tiles_advise_whole_pictures(box: Box) -> None:
    text = warned([box], DetectOptions())
    assert text.startswith("1 of 1 boxes are as large as a tile (320×320 px)")
    assert "--mode whole, --whole or --scales 0.5" in text
    # A pass over the whole picture, or no tiles at all, sees such things.
    assert "as large as a tile" not in warned([box], DetectOptions(whole_frame=True))
    assert not warned([box], DetectOptions(mode="whole"))


def test_one_box_that_fills_the_picture_is_enough() -> None:
    assert "1 of 4 boxes are as large as a tile" in warned([*SMALL, (0, 0, 500, 400)], DetectOptions())


@pytest.mark.parametrize(
    ("side", "asked", "advice"),
    [
        (230, DetectOptions(), "larger than the 10 to 200 px that the model knows; try --scales 0.5, --mode whole, or"),
        (6, DetectOptions(), "smaller than the 10 to 200 px that the model knows; try --scales 2, or another model"),
        (230, DetectOptions(scales=(1.0, 0.5)), ""),
        (6, DetectOptions(scales=(2.0,)), ""),
    ],
)
def test_sizes_that_the_model_does_not_know_advise_a_scale(side: float, asked: DetectOptions, advice: str) -> None:
    text = warned([(100, 100, 100 + side, 100 + side)] * 3, asked)
    assert advice in text
    assert bool(text) is bool(advice)


def test_ground_that_the_model_does_not_know_gives_a_warning() -> None:
    assert "0.02 m per pixel is finer than the 0.05 to 0.2 m that the model knows; try --scales auto" in warned(
        SMALL, DetectOptions(), 0.02
    )
    assert "is coarser than the 0.05 to 0.2 m that the model knows; try another model, or" in warned(
        SMALL, DetectOptions(scales="auto"), 1.0
    )
    assert "try --scales auto" in warned(SMALL, DetectOptions(), 0.3)
    assert not warned(SMALL, DetectOptions(scales="auto"), 0.02)


def test_classes_without_photographs_are_named_once() -> None:
    known = card()
    options = resolve(known, DetectOptions(), FrameView(1000, 800))
    assert notices(known, options, found(SMALL, BOAT), SHOWN) == ["not tested on photographs: boat"]
    assert notices(known, options, found(SMALL), SHOWN) == []


def test_nothing_found_names_the_scores_that_count_and_what_to_try() -> None:
    def said(known: ModelCard, asked: DetectOptions) -> str:
        return nothing_found(known, resolve(known, asked, FrameView(1000, 800)))

    classes = [{"name": "vehicle", "confidence": 0.77}, {"name": "boat"}, {"name": "bird", "confidence": 0.77}]
    own = model_card(classes=classes, thresholds={"confidence": 0.6}, tiling={"object_px": [8, 250]})
    assert said(own, DetectOptions()) == (
        "nothing found with a score of at least 0.77 (vehicle, bird), 0.6 (boat); --confidence 0.3 shows less certain "
        "ones; the model knows things of 8 to 250 px, --scales 0.5,0.25 finds larger ones"
    )
    for asked in (DetectOptions(scales=(0.25,)), DetectOptions(mode="whole")):
        assert "larger ones" not in said(own, asked)
    many = model_card(classes=[{"name": f"c{n}", "confidence": n / 100} for n in range(5, 80)])
    assert said(many, DetectOptions()) == "nothing found with a score of at least 0.05 to 0.79, by class"
    assert said(many, DetectOptions(confidence=0.2)) == (
        "nothing found with a score of at least 0.2; --confidence 0.1 shows less certain ones"
    )


def test_a_foreign_card_gives_no_warning_about_sizes_or_tests() -> None:
    fields = card().model_dump() | {"tiling": {}, "classes": [{"name": "bus"}, {"name": "dog"}]}
    foreign = ModelCard.model_validate(fields)
    options = resolve(foreign, DetectOptions(mode="whole"), FrameView(1000, 800))
    assert notices(foreign, options, found([(0, 0, 1000, 800)]), Shown(1000, 800, -10)) == []
