"""Compares ids with golden values, because a changed id would make every retry a new frame."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from schemas.ids import dead_letter_id, detection_id, detections_event_id, device_uuid, frame_id

MOMENT = datetime(2026, 11, 20, 12, 0, 0, 1, tzinfo=UTC)
HASH = "ab" * 32
FRAME = frame_id("drone-1", MOMENT, HASH)
ANSWER = detections_event_id(FRAME, None, "kestrel", "1")


def test_ids_have_their_golden_values() -> None:
    assert [
        str(one)
        for one in (
            FRAME,
            ANSWER,
            detections_event_id(FRAME, UUID(int=7), "kestrel", "1"),
            detection_id(ANSWER, 0),
            detection_id(ANSWER, 1),
            dead_letter_id("postgres", "detections", 3, 42),
            device_uuid("drone-1"),
        )
    ] == GOLDEN


def test_the_same_moment_in_another_zone_is_the_same_frame() -> None:
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=-7)))
    assert frame_id("drone-1", elsewhere, HASH.upper()) == FRAME


def test_ids_depend_on_every_part() -> None:
    others = {
        frame_id("drone-2", MOMENT, HASH),
        frame_id("drone-1", MOMENT + timedelta(microseconds=1), HASH),
        frame_id("drone-1", MOMENT, "cd" * 32),
        detections_event_id(FRAME, None, "kestrel", "2"),
        detections_event_id(FRAME, None, "kestrel1", ""),
        detections_event_id(FRAME, FRAME, "kestrel", "1"),
        dead_letter_id("a", "b1", 1, 1),
        dead_letter_id("a", "b", 11, 1),
        dead_letter_id("a", "b", 1, 11),
    }
    assert len(others | {FRAME, ANSWER}) == 11


def test_a_naive_time_has_no_id() -> None:
    with pytest.raises(ValueError, match="time zone"):
        frame_id("drone-1", datetime(2026, 11, 20), HASH)  # noqa: DTZ001 (naive on purpose)


GOLDEN = [
    "25b472eb-f16c-5512-9a6d-90dfa7aa4207",
    "af46caeb-0d73-54c1-9f47-8252bb672490",
    "d4e9a147-235d-5330-a6f5-0fe7066f8e85",
    "cb7ef26b-9f44-5413-8712-fc8bd0f937f6",
    "313dc7cb-603f-5f25-becf-d49c5a67dfa8",
    "d543f2e8-eb20-51f0-ad48-151652d3a1db",
    "cfa760fb-63b7-58f0-b284-fcee498746d3",
]
