"""Identities: golden values, because an id that changes once makes every retry a new frame."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from schemas.ids import answer_id, dead_letter_id, detection_id, device_uuid, frame_id

MOMENT = datetime(2026, 11, 20, 12, 0, 0, 1, tzinfo=UTC)
HASH = "ab" * 32
FRAME = frame_id("drone-1", MOMENT, HASH)
ANSWER = answer_id(FRAME, None, "kestrel", "1")


def test_golden_values() -> None:
    assert [
        str(one)
        for one in (
            FRAME,
            ANSWER,
            answer_id(FRAME, UUID(int=7), "kestrel", "1"),
            detection_id(ANSWER, 0),
            detection_id(ANSWER, 1),
            dead_letter_id("postgres", "detections", 3, 42),
            device_uuid("drone-1"),
        )
    ] == GOLDEN


def test_the_same_moment_in_another_zone_is_the_same_frame() -> None:
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=-7)))
    assert frame_id("drone-1", elsewhere, HASH.upper()) == FRAME


def test_every_part_counts() -> None:
    others = {
        frame_id("drone-2", MOMENT, HASH),
        frame_id("drone-1", MOMENT + timedelta(microseconds=1), HASH),
        frame_id("drone-1", MOMENT, "cd" * 32),
        answer_id(FRAME, None, "kestrel", "2"),
        answer_id(FRAME, None, "kestrel1", ""),
        answer_id(FRAME, FRAME, "kestrel", "1"),
        dead_letter_id("a", "b1", 1, 1),
        dead_letter_id("a", "b", 11, 1),
        dead_letter_id("a", "b", 1, 11),
    }
    assert len(others | {FRAME, ANSWER}) == 11


def test_a_naive_time_has_no_id() -> None:
    with pytest.raises(ValueError, match="time zone"):
        frame_id("drone-1", datetime(2026, 11, 20), HASH)  # noqa: DTZ001 (naive on purpose)


GOLDEN = [
    "6e529c22-fa23-548d-b4a3-1264b8ef4612",
    "6465e35e-1c0f-5b29-afaa-13bf82f39494",
    "b1599078-9458-5334-8e2c-fc75f350393b",
    "ee987e30-a648-5610-aa43-3d1d71e7927b",
    "f1311a7d-1e94-57e0-8caf-1bae2570a6ef",
    "2280e535-77d9-5f45-a8b9-6fbac50f3258",
    "8ed50663-cbe1-5ccc-9162-255e3f2b5b40",
]
