"""Checks what is told to rules about a frame: numbers, order, and texts that cannot become Prolog."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from detectors.geometry.arrays import Detections
from detectors.rules.facts import write_frame
from detectors.rules.language.reader import read_clauses
from detectors.rules.language.terms import Compound, List, Term, signature, write_term
from schemas.events import VideoPosition
from schemas.geometry import CameraGeometry
from tests.harnesses.rules import LABELS, detections_of, frame_facts

ROWS = [
    ("cow", 0.9, (100.0, 10.0, 140.0, 30.0)),
    ("sheep", 0.5, (20.0, 40.0, 30.0, 60.0)),
]


def term_of(text: str) -> Compound:
    clauses, errors = read_clauses(text)
    assert errors == []
    (clause,) = clauses
    assert isinstance(clause.head, Compound)
    return clause.head


def facts_in(text: str) -> list[str]:
    facts = term_of(text).arguments[1]
    assert isinstance(facts, List)
    return [write_term(one) for one in facts.items]


def blocks_in(text: str) -> tuple[Term, ...]:
    blocks = term_of(text).arguments[2]
    return blocks.arguments if isinstance(blocks, Compound) else ()


def test_detections_are_in_the_order_of_their_centres_with_their_numbers() -> None:
    (block,) = blocks_in(write_frame(frame_facts(), detections_of(ROWS), LABELS))
    assert write_term(block) == (
        "'b'('d'(1,1,'sheep',0.5,25.0,50.0,10.0,20.0),'d'(2,0,'cow',0.9,120.0,20.0,40.0,20.0))"
    )


def test_rotated_boxes_bring_both_of_their_sides() -> None:
    quad = np.array([[[0, 0], [30, 40], [22, 46], [-8, 6]]], np.float32)
    found = Detections(np.array([[0, 0, 30, 46]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32), quad)
    (block,) = blocks_in(write_frame(frame_facts(), found, LABELS))
    assert write_term(block).endswith(",50.0,10.0))")


def test_known_facts_are_written_and_unknown_ones_left_out() -> None:
    known = facts_in(
        write_frame(
            frame_facts(
                gsd_m=0.05,
                captured_at=datetime(2026, 11, 29, 23, 5, 7, 9, tzinfo=UTC),
                camera=CameraGeometry(latitude=-3.5, longitude=12.0, altitude_m=80, heading_deg=270, pitch_deg=-90),
                device="drone-7",
                flight="north",
                video=VideoPosition(source="cam", presentation_time_s=2.5, clock="option"),
            ),
            detections_of(ROWS),
            LABELS,
        )
    )
    assert known == [
        *("'detections'(2)", "'widest'(40.0)", "'frame_px'(4000,3000)", "'model'('cows','1.0')", "'gsd_m'(0.05)"),
        *("'device'('drone-7')", "'flight'('north')", "'date'(2026,11,29)", "'time'(23,5,7)", "'weekday'(7)"),
        *("'place'((-3.5),12.0)", "'altitude_m'(80.0)", "'heading'(270.0)", "'pitch'((-90.0))", "'video'('cam',2.5)"),
    ]
    assert len(facts_in(write_frame(frame_facts(), detections_of([]), LABELS))) == 4


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("x'), halt, foo('", "'x\\'), halt, foo(\\''"),
        ("a\n\x00\ud800", "'a\\xa\\\ufffd\ufffd'"),
        (True, "'true'"),
        (2.5, "2.5"),
        (7, "7"),
        (float("nan"), None),
        (10**30, None),
        ("x" * 1_001, None),
        ([1], None),
        (None, None),
    ],
)
def test_metadata_is_taken_where_it_is_text_or_a_number(value: object, written: str | None) -> None:
    facts = facts_in(write_frame(frame_facts(metadata={"k'": value}), detections_of([]), LABELS))
    expected = [] if written is None else [f"'metadata'('k\\'',{written})"]
    assert [one for one in facts if one.startswith("'metadata'")] == expected


def test_metadata_has_at_most_64_keys() -> None:
    facts = facts_in(write_frame(frame_facts(metadata={str(n): n for n in range(900)}), detections_of([]), LABELS))
    assert sum(one.startswith("'metadata'") for one in facts) == 64


def test_many_detections_are_in_blocks_that_engines_take() -> None:
    rows = [("cow", 0.5, (n, 0.0, n + 5.0, 5.0)) for n in range(450)]
    blocks = blocks_in(write_frame(frame_facts(), detections_of(rows), LABELS))
    assert [signature(one) for one in blocks] == [("b", 200), ("b", 200), ("b", 50)]
    assert blocks_in(write_frame(frame_facts(), detections_of([]), LABELS)) == ()
