"""Checks what rulings change in a detections event: what stays, what is dropped, and what is reported."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import uuid4

from detectors.card.card import default_card_path, read_card
from detectors.model.options import FrameView, resolve
from detectors.rules.language.program import Rule
from detectors.rules.language.terms import Place
from detectors.rules.rules_file import parse_rules
from detectors.rules.rulings import Ruling, Rulings
from detectors.worker.frames.detections_event import make_detections
from detectors.worker.frames.frame_rules import FrameRulings
from detectors.worker.pipeline.pipeline import FrameResult
from schemas.events import DetectionsMade, DetectOptions
from standgale.testing.factories import START, frame_captured
from tests.harnesses.rules import Row, detections_of

CARD = read_card(default_card_path())
LABELS = [one.name for one in CARD.classes]
ROWS: list[Row] = [(LABELS[n % 2], 0.9 - n / 10, (n * 10, 0, n * 10 + 9, 9)) for n in range(4)]
RULES = parse_rules(b"rule(small, D, drop) :- length_px(D, L), L < 9.", "cows.pl")
SMALL, HERD = Rule("small", Place(1, 1)), Rule("herd", Place(2, 1))


def event_of(rulings: Rulings | None, *, job: bool = False) -> DetectionsMade:
    view = FrameView(100, 100)
    options = resolve(CARD, DetectOptions(), view)
    result = FrameResult(detections_of(ROWS, LABELS), view, options, tiles=1, decode_ms=1, inference_ms=1, merge_ms=1)
    made = None if rulings is None else FrameRulings(RULES.name, RULES.digest, rulings, ("calf", LABELS[2], "lamb"))
    at = START + timedelta(seconds=1)
    frame = frame_captured().model_copy(update={"job_id": uuid4() if job else None})
    return make_detections(frame, CARD, result, made, detected_at=at, fetch_ms=1.0, total_ms=2.0)


def test_dropped_detections_are_reported_and_the_others_keep_their_ids() -> None:
    plain = event_of(None)
    event = event_of(Rulings({1: Ruling("drop", SMALL), 3: Ruling("drop", SMALL)}, engine="trealla", elapsed_ms=2.0))
    assert [one.id for one in event.detections] == [plain.detections[0].id, plain.detections[2].id]
    assert event.rules is not None
    assert [(one.id, one.dropped_by) for one in event.rules.dropped] == [
        (plain.detections[1].id, "small"),
        (plain.detections[3].id, "small"),
    ]
    assert event.rules.dropped_by_rule == {"small": 2}
    assert (event.rules.file, event.rules.sha256, event.rules.problem) == ("cows.pl", RULES.digest, None)


def test_confirmed_and_relabelled_detections_name_their_rule() -> None:
    event = event_of(
        Rulings(
            {0: Ruling("confirm", HERD), 1: Ruling("relabel", SMALL, LABELS[2]), 2: Ruling("relabel", SMALL, "calf")}
        )
    )
    shown = [(one.label, one.class_id, one.rule and (one.rule.name, one.rule.ruling)) for one in event.detections]
    assert shown == [
        (LABELS[0], 0, ("herd", "confirmed")),
        (LABELS[2], 2, ("small", "relabelled")),
        ("calf", len(LABELS), ("small", "relabelled")),
        (LABELS[1], 1, None),
    ]
    assert [one.rule.former_label for one in event.detections[:3] if one.rule] == [None, LABELS[1], LABELS[0]]


def test_event_of_a_job_names_the_classes_of_card_and_rules_by_number() -> None:
    event = event_of(Rulings({2: Ruling("relabel", SMALL, "calf")}), job=True)
    assert event.classes == [*LABELS, "calf", "lamb"]
    assert all(event.classes[one.class_id] == one.label for one in event.detections)
    assert event_of(None, job=True).classes == LABELS
    assert "classes" not in json.loads(event_of(None).to_bytes())


def test_a_problem_leaves_the_detections_as_they_were() -> None:
    event = event_of(Rulings(problem="p" * 5_000))
    assert event.detections == event_of(None).detections
    assert event.rules is not None
    assert event.rules.problem == "p" * 4_000


def test_an_event_without_rules_has_the_bytes_that_it_had_before_there_were_rules() -> None:
    written = json.loads(event_of(None).to_bytes())
    assert "rules" not in written
    assert all("rule" not in one for one in written["detections"])


def test_an_event_with_rules_is_read_back_as_it_was() -> None:
    event = event_of(Rulings({0: Ruling("drop", SMALL), 1: Ruling("confirm", HERD)}))
    assert DetectionsMade.model_validate_json(event.to_bytes()) == event
