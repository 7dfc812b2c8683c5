"""Checks that events survive a round trip, and that wrong bytes raise only EventError."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.errors import EventError
from schemas.event_base import Event
from schemas.events import EVENTS, DeadLetter, DetectionsMade, FrameCaptured, OriginalRecord
from schemas.geometry import Box, CameraGeometry
from schemas.timestamps import format_utc, utc_now
from tests.factories import FRAME_FIELDS

FRAME = FRAME_FIELDS | {"captured_at": "2026-11-20T14:00:00.000001+02:00"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def test_events_survive_json_in_utc_with_microseconds() -> None:
    frame = FrameCaptured.model_validate(FRAME)
    text = frame.to_bytes()
    assert b'"captured_at":"2026-11-20T12:00:00.000001Z"' in text
    assert b'"received_at":"2026-11-20T12:00:01.000000Z"' in text
    assert FrameCaptured.from_bytes(text) == frame
    assert FrameCaptured.from_bytes(text).to_bytes() == text


def test_unknown_fields_are_ignored_and_events_never_change() -> None:
    frame = FrameCaptured.from_bytes(json.dumps({**FRAME, "later": 1}).encode())
    assert not hasattr(frame, "later")
    with pytest.raises(ValidationError, match="frozen"):
        frame.device_id = "other"  # type: ignore[misc]  # that it cannot be set is what is tested


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"device_id": ""}, "device_id"),
        ({"device_id": "x" * 256}, "device_id"),
        ({"captured_at": "2026-11-20T12:00:00"}, "captured_at"),
        ({"captured_at": "yesterday"}, "captured_at"),
        ({"captured_at": "0001-01-01T00:00:00+14:00"}, "captured_at"),
        ({"captured_at": "9999-12-31T23:00:00-02:00"}, "captured_at"),
        ({"captured_at": "0001-01-01T00:00:30Z"}, "captured_at"),
        ({"captured_at": "9999-12-31T23:59:59.999999Z"}, "captured_at"),
        ({"frame_id": "1"}, "frame_id"),
        ({"image": {}}, "image.uri"),
        ({"camera": {"latitude": 91}}, "camera.latitude"),
        ({"options": {"overlap": 0.95}}, "options.overlap"),
    ],
)
def test_wrong_fields_are_named(change: dict[str, object], place: str) -> None:
    with pytest.raises(EventError, match=place):
        FrameCaptured.from_bytes(json.dumps({**FRAME, **change}).encode())


def test_a_tombstone_is_no_event() -> None:
    with pytest.raises(EventError, match="tombstone"):
        FrameCaptured.from_bytes(None)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200))
def test_any_bytes_raise_only_event_error(data: bytes) -> None:
    for event in EVENTS:
        with pytest.raises(EventError):
            event.from_bytes(data)


@settings(deadline=None, max_examples=60)
@given(JSON, st.sampled_from([FrameCaptured, DetectionsMade, DeadLetter]))
def test_any_json_raises_only_event_error(value: object, event: type[Event]) -> None:
    with pytest.raises(EventError):
        event.from_bytes(json.dumps(value).encode())


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(FRAME)), JSON)
def test_nearly_right_events_raise_only_event_error(name: str, value: object) -> None:
    try:
        frame = FrameCaptured.from_bytes(json.dumps({**FRAME, name: value}).encode())
    except EventError:
        return
    assert FrameCaptured.from_bytes(frame.to_bytes()) == frame


@settings(deadline=None, max_examples=60)
@given(st.integers(min_value=0, max_value=199), st.binary(min_size=1, max_size=3))
def test_damaged_bytes_raise_only_event_error(at: int, damage: bytes) -> None:
    good = FrameCaptured.model_validate(FRAME).to_bytes()
    try:
        FrameCaptured.from_bytes(good[:at] + damage + good[at + len(damage) :])
    except EventError as error:
        assert "standgale.frame.captured.v1" in str(error)


def test_a_text_error_stays_short_however_many_fields_are_wrong() -> None:
    with pytest.raises(EventError) as caught:
        DetectionsMade.from_bytes(b"{}")
    assert len(str(caught.value)) < 500


@settings(deadline=None, max_examples=60)
@given(st.binary(), st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5)), max_size=3))
def test_an_original_record_keeps_every_byte(value: bytes, headers: list[tuple[str, bytes]]) -> None:
    record = OriginalRecord(topic="t", partition=0, offset=0, timestamp_ms=0, key=None, value=value, headers=headers)
    assert OriginalRecord.model_validate_json(record.model_dump_json()) == record


def test_boxes_are_ordered_and_normalised() -> None:
    with pytest.raises(ValidationError, match="x1 <= x2"):
        Box(x1=0.5, y1=0, x2=0.4, y2=1)
    with pytest.raises(ValidationError):
        Box(x1=0, y1=0, x2=1.01, y2=1)


def test_ground_sampling_distance() -> None:
    camera = CameraGeometry(altitude_m=100, focal_length_mm=10, sensor_width_mm=10)
    assert camera.ground_sampling_distance_m(1_000) == pytest.approx(0.1)
    assert CameraGeometry(altitude_m=100).ground_sampling_distance_m(1_000) is None
    below = CameraGeometry(altitude_m=-1, focal_length_mm=10, sensor_width_mm=10)
    assert below.ground_sampling_distance_m(1_000) is None


@pytest.mark.parametrize(("pitch_deg", "known"), [(-90, True), (-60, True), (-59.9, False), (0, False), (None, True)])
def test_a_tilted_camera_has_no_ground_sampling_distance(pitch_deg: float | None, known: bool) -> None:
    camera = CameraGeometry(altitude_m=100, focal_length_mm=10, sensor_width_mm=10, pitch_deg=pitch_deg)
    assert camera.ground_sampling_distance_m(1_000) == (pytest.approx(0.1) if known else None)
    given = CameraGeometry(gsd_m=0.2, pitch_deg=pitch_deg)
    assert given.ground_sampling_distance_m(1_000) == 0.2


@pytest.mark.parametrize(
    "fields",
    [
        {"gsd_m": 1e-310},
        {"altitude_m": 1e-200, "focal_length_mm": 10, "sensor_width_mm": 1e-200},
        {"altitude_m": 100_000, "focal_length_mm": 1e-310, "sensor_width_mm": 1_000},
        {"altitude_m": 100_000, "focal_length_mm": 1e-3, "sensor_width_mm": 1_000},
    ],
)
def test_an_impossible_ground_sampling_distance_is_unknown(fields: dict[str, float]) -> None:
    assert CameraGeometry.model_validate(fields).ground_sampling_distance_m(1_000) is None


@settings(deadline=None, max_examples=60)
@given(st.datetimes(), st.integers(min_value=-14 * 60, max_value=14 * 60))
def test_time_text_is_27_characters_and_sorts_like_time(moment: datetime, minutes: int) -> None:
    moment = moment.replace(year=max(2, min(moment.year, 9_998)))
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    text = format_utc(aware)
    assert len(text) == 27
    assert datetime.fromisoformat(text) == aware
    later = aware + timedelta(microseconds=1)
    assert text < format_utc(later)


def test_a_naive_time_is_refused_and_now_is_aware() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        format_utc(datetime(2026, 1, 1))  # noqa: DTZ001 (naive on purpose)
    assert utc_now().tzinfo is UTC
