"""Parameters of a frame are checked before the body is read; each refusal names the field."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.http_api.errors.api_errors import ApiError, ValidationFailedError
from ingest.acceptance.errors import InvalidCaptureTimeError
from ingest.acceptance.fields import KNOWN_FIELDS, parse_fields
from schemas.geometry import CameraGeometry
from schemas.topics import FRAMES_BACKFILL, FRAMES_LIVE

MAX_METADATA = 1_000


def parse(**fields: str) -> object:
    return parse_fields(fields.items(), MAX_METADATA)


def test_all_fields_arrive() -> None:
    fields = parse_fields(
        {
            "device_id": "drone-1",
            "captured_at": "2026-01-31T12:00:00.5+02:00",
            "altitude_m": "80.5",
            "heading_deg": "1e1",
            "latitude": "-33.5",
            "longitude": "+151",
            "metadata": '{"mission": {"leg": [1, 2.5, null, "x"]}}',
            "original_filename": "../../etc/DJI_1.JPG",
            "flight": "2026-01-31_north.1",
        }.items(),
        MAX_METADATA,
    )
    assert fields.device_id == "drone-1"
    assert fields.captured_at == datetime(2026, 1, 31, 10, 0, 0, 500_000, tzinfo=UTC)
    assert fields.camera == {"altitude_m": 80.5, "heading_deg": 10.0, "latitude": -33.5, "longitude": 151.0}
    assert fields.metadata == {"mission": {"leg": [1, 2.5, None, "x"]}}
    assert fields.original_filename == "DJI_1.JPG"
    assert fields.flight == "2026-01-31_north.1"


def test_nothing_given_is_nothing_known() -> None:
    fields = parse_fields([], MAX_METADATA)
    assert (fields.device_id, fields.captured_at, fields.camera, fields.metadata) == (None, None, {}, {})


def test_an_unknown_field_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValidationFailedError, match="unknown field 'altitude'") as caught:
        parse(altitude="80")
    assert caught.value.field == "altitude"
    assert all(name in str(caught.value.details) for name in KNOWN_FIELDS)


def test_a_field_given_twice_is_refused() -> None:
    with pytest.raises(ValidationFailedError, match="twice"):
        parse_fields([("altitude_m", "1"), ("altitude_m", "1")], MAX_METADATA)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("2026-01-31T12:00:00", "zone"),
        ("2026-01-31T12:00:00 02:00", "%2B"),
        ("20260131T120000Z", "zone"),
        ("2026-W05-6T12:00:00Z", "zone"),
        ("yesterday", "zone"),
        ("", "zone"),
    ],
)
def test_a_capture_time_must_be_rfc_3339(text: str, hint: str) -> None:
    with pytest.raises(InvalidCaptureTimeError, match="RFC 3339") as caught:
        parse(captured_at=text)
    assert hint in str(caught.value.details)
    assert caught.value.field == "captured_at"


@pytest.mark.parametrize("text", ["2026-02-30T12:00:00Z", "0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z"])
def test_a_capture_time_must_exist_and_be_plausible(text: str) -> None:
    with pytest.raises(InvalidCaptureTimeError):
        parse(captured_at=text)


@pytest.mark.parametrize("text", ["2026-01-31t12:00:00z", "2026-01-31 12:00:00Z", "2026-01-31T12:00:00.0000001Z"])
def test_all_of_rfc_3339_is_taken(text: str) -> None:
    assert parse_fields([("captured_at", text)], MAX_METADATA).captured_at == datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("altitude_m", "high"),
        ("altitude_m", "nan"),
        ("altitude_m", "1e999"),
        ("altitude_m", "1_000"),
        ("altitude_m", ""),
        ("heading_deg", "360"),
        ("pitch_deg", "-91"),
        ("focal_length_mm", "0"),
        ("gsd_m", "0"),
        ("gsd_m", "fine"),
    ],
)
def test_a_camera_field_must_be_a_number_in_its_range(name: str, text: str) -> None:
    with pytest.raises(ValidationFailedError, match=name) as caught:
        parse(**{name: text})
    assert caught.value.field == name


@pytest.mark.parametrize("space", [" ", "\t", "\x1d", "\x1c", "\u2003"])
def test_a_number_may_have_any_space_around_it(space: str) -> None:
    fields = parse_fields([("altitude_m", f"{space}80{space}")], MAX_METADATA)
    assert fields.camera == {"altitude_m": 80.0}


def test_metres_per_pixel_is_a_field() -> None:
    fields = parse_fields([("gsd_m", "0.035"), ("altitude_m", "60")], MAX_METADATA)
    assert CameraGeometry.model_validate(fields.camera).ground_sampling_distance_m(4000) == 0.035


def test_half_a_position_is_refused() -> None:
    with pytest.raises(ValidationFailedError, match="together"):
        parse(latitude="10")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[1]", "JSON object"),
        ("null", "JSON object"),
        ("{", "not JSON"),
        ('{"a": NaN}', "not JSON"),
        ('{"a": "\\ud800"}', "not JSON"),
        ('{"a": "x\\u0000y"}', "NUL"),
        ('{"x\\u0000y": 1}', "NUL"),
        ('{"a":' * 17 + "1" + "}" * 17, "deeper"),
        ('{"a":' + "[" * 400 + "]" * 400 + "}", "deeper"),
        ('{"a": "' + "x" * MAX_METADATA + '"}', "max_metadata_bytes"),
    ],
)
def test_metadata_is_a_bounded_json_object(text: str, why: str) -> None:
    with pytest.raises(ValidationFailedError, match=why) as caught:
        parse(metadata=text)
    assert caught.value.field == "metadata"


@pytest.mark.parametrize("flight", ["", ".", "..", "-a", "a/b", "a b", "a%2Fb", "a\n", "ä", "٣", "a" * 129])
def test_a_flight_that_is_no_safe_part_of_an_address_is_refused(flight: str) -> None:
    """I14."""
    with pytest.raises(ValidationFailedError, match="128 of the characters") as caught:
        parse(flight=flight)
    assert caught.value.field == "flight"


def test_a_frame_may_ask_for_a_priority_and_no_other_word() -> None:
    assert parse_fields([], MAX_METADATA).topic is None
    assert parse_fields([("priority", "live")], MAX_METADATA).topic == FRAMES_LIVE
    assert parse_fields([("priority", "backfill")], MAX_METADATA).topic == FRAMES_BACKFILL
    with pytest.raises(ValidationFailedError, match="priority is 'urgent'; it must be live or backfill") as caught:
        parse(priority="urgent")
    assert caught.value.field == "priority"


@pytest.mark.parametrize("name", [name for name in KNOWN_FIELDS if name not in ("original_filename", "metadata")])
def test_a_field_of_ten_million_digits_is_refused_before_it_is_read(name: str) -> None:
    begin = time.process_time()
    with pytest.raises(ValidationFailedError, match=f"{name} has 10000001 characters; at most 255") as caught:
        parse_fields([(name, "2" + "0" * 10_000_000)], MAX_METADATA)
    assert time.process_time() - begin < 0.1
    assert caught.value.field == name


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KNOWN_FIELDS), st.text(max_size=60)), max_size=4))
def test_any_text_is_taken_or_refused_by_name(pairs: list[tuple[str, str]]) -> None:
    try:
        parse_fields(pairs, MAX_METADATA)
    except ApiError as error:
        assert error.field in KNOWN_FIELDS
