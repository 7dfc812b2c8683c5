"""Checks the digits in a detections event: rounded once, so that every reader sees the same numbers."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np

from detectors.card.card import ClassCard, TextCard, default_card_path, read_card
from detectors.geometry.arrays import Detections
from detectors.geometry.rotated_boxes import corners_of, enclosing
from detectors.model.options import FrameView, resolve
from detectors.worker.frames.detections_event import make_detections
from detectors.worker.pipeline.pipeline import FrameResult
from schemas.events import LONGEST_PROMPT, DetectionsMade, DetectOptions
from standgale.testing.factories import START, frame_captured, model_card

WIDTH, HEIGHT = 4000, 3000
BOXES = 300


def event_of(detections: Detections, flight_id: str | None = None) -> DetectionsMade:
    card, view = read_card(default_card_path()), FrameView(WIDTH, HEIGHT)
    options = resolve(card, DetectOptions(), view)
    result = FrameResult(detections, view, options, tiles=48, decode_ms=1.0, inference_ms=1.0, merge_ms=1.0)
    at = START + timedelta(seconds=1)
    frame = frame_captured().model_copy(update={"flight_id": flight_id})
    return make_detections(frame, card, result, detected_at=at, fetch_ms=1.0, total_ms=2.0)


def with_prompt(prompt: str | None, *, takes_text: bool, classes: int = 2) -> str | None:
    card, view = model_card(), FrameView(WIDTH, HEIGHT)
    if takes_text:
        names = tuple(ClassCard(name=f"bird {number}") for number in range(classes))
        card = card.model_copy(update={"text": TextCard(tokenizer="tokenizer.json"), "classes": names})
    options = resolve(card, DetectOptions(), view)
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    result = FrameResult(nothing, view, options, tiles=1, decode_ms=1.0, inference_ms=1.0, merge_ms=1.0)
    frame = frame_captured().model_copy(update={"options": DetectOptions(prompt=prompt)})
    at = START + timedelta(seconds=1)
    return make_detections(frame, card, result, detected_at=at, fetch_ms=1.0, total_ms=2.0).options.prompt


def found(*, rotated: bool = False) -> Detections:
    rng = np.random.default_rng(5)
    centres = rng.uniform((100, 100), (WIDTH - 100, HEIGHT - 100), (BOXES, 2)).astype(np.float32)
    sizes = rng.uniform(5, 80, (BOXES, 2)).astype(np.float32)
    quads = corners_of(centres, sizes, rng.uniform(0, 3, BOXES).astype(np.float32))
    scores = np.sort(rng.uniform(0.25, 1, BOXES).astype(np.float32))[::-1]
    return Detections(enclosing(quads), scores, np.zeros(BOXES, np.int32), quads if rotated else None)


def decimals(text: str) -> int:
    return len(text.partition(".")[2])


def test_coordinates_have_6_decimals_and_confidences_4() -> None:
    written: dict[str, list[str]] = {}
    data = event_of(found(rotated=True)).to_bytes()
    for one in json.loads(data, parse_float=str)["detections"]:
        written.setdefault("confidence", []).append(one["confidence"])
        written.setdefault("box", []).extend(one["box"].values())
        written.setdefault("corners", []).extend(each for corner in one["corners"] for each in corner.values())
    assert {name: max(map(decimals, texts)) for name, texts in written.items()} == {
        "confidence": 4,
        "box": 6,
        "corners": 6,
    }


def test_an_event_and_its_bytes_have_the_same_numbers() -> None:
    event = event_of(found())
    assert DetectionsMade.from_bytes(event.to_bytes()) == event


def test_rounded_boxes_are_within_a_hundredth_of_a_pixel() -> None:
    detections = found()
    rows = [(one.box.x1, one.box.y1, one.box.x2, one.box.y2) for one in event_of(detections).detections]
    boxes = np.array(rows) * (WIDTH, HEIGHT, WIDTH, HEIGHT)
    assert np.abs(boxes - detections.boxes).max() < 0.01


def test_an_event_with_300_boxes_is_below_54_kb() -> None:
    assert len(event_of(found()).to_bytes()) < 54_000


def test_the_flight_of_a_frame_is_that_of_its_detections() -> None:
    """I14."""
    assert event_of(found(), "2026-01-31-north").flight_id == "2026-01-31-north"


def test_an_event_has_the_prompt_that_was_used() -> None:
    """C-S1-042: that of the frame, else the classes of the card; none of a model that takes no text."""
    assert with_prompt("boat", takes_text=True) == "boat"
    assert with_prompt(None, takes_text=True) == "bird 0 . bird 1"
    assert with_prompt(None, takes_text=False) is None


def test_a_prompt_longer_than_an_event_takes_is_shortened() -> None:
    prompt = with_prompt(None, takes_text=True, classes=200)
    assert prompt is not None
    assert len(prompt) == LONGEST_PROMPT
    assert "characters" in prompt
