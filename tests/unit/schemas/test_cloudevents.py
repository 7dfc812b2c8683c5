"""Checks that headers survive a round trip, and that every wrong record raises a clear error."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.cloudevents import Attributes, Headers, decode, header, to_headers
from schemas.errors import EventError, EventVersionError
from schemas.events import DetectionsMade, FrameCaptured
from tests.factories import FRAME_FIELDS

VALUE = FrameCaptured.model_validate(FRAME_FIELDS)
NAMES = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "content-type", "traceparent", "x")


def headers(**changes: str | None) -> Headers:
    made = to_headers(
        Attributes(
            id="1",
            source="test",
            type=FrameCaptured.event_type(),
            time=datetime(2026, 11, 20, 12, tzinfo=UTC),
            partition_key="drone-1",
            subject="frame",
            traceparent="00-1-2-00",
            tracestate="a=b",
        )
    )
    kept = [(name, value) for name, value in made if name not in changes]
    return (*kept, *[(name, value.encode()) for name, value in changes.items() if value is not None])


def test_headers_in_a_fixed_order() -> None:
    assert headers() == (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"1"),
        ("ce_source", b"test"),
        ("ce_type", b"standgale.frame.captured.v1"),
        ("ce_time", b"2026-11-20T12:00:00.000000Z"),
        ("ce_partitionkey", b"drone-1"),
        ("ce_subject", b"frame"),
        ("content-type", b"application/json"),
        ("traceparent", b"00-1-2-00"),
        ("tracestate", b"a=b"),
    )


def test_optional_attributes_leave_no_header() -> None:
    attributes = Attributes("1", "test", "t", datetime(2026, 1, 1, tzinfo=UTC), "k")
    assert not {"ce_subject", "traceparent", "tracestate"} & {name for name, _ in to_headers(attributes)}


def test_decode_returns_the_event() -> None:
    assert decode(headers(), VALUE.to_bytes(), FrameCaptured) == VALUE


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ce_id": None}, "ce_id missing"),
        ({"ce_id": "", "ce_source": None}, "ce_id, ce_source missing"),
        ({"ce_specversion": "0.3"}, "'0.3' is not supported"),
        ({"ce_type": "standgale.frame.taken.v1"}, "an unknown type"),
        ({"ce_type": "standgale.detections.made.v1"}, "a known type"),
    ],
)
def test_wrong_attributes_are_named(changes: dict[str, str | None], words: str) -> None:
    with pytest.raises(EventError, match=words):
        decode(headers(**changes), VALUE.to_bytes(), FrameCaptured)


def test_the_first_of_equal_headers_counts_and_bytes_must_be_text() -> None:
    assert header((("a", b"1"), ("a", b"2")), "a") == "1"
    assert header((), "a") is None
    with pytest.raises(EventError, match="header a: not UTF-8"):
        header((("a", b"\xff"),), "a")


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(NAMES) | st.text(max_size=5), st.binary(max_size=30)), max_size=10),
    st.none() | st.binary(max_size=100),
)
def test_any_record_raises_only_event_error(given_headers: list[tuple[str, bytes]], value: bytes | None) -> None:
    with pytest.raises(EventError):
        decode(tuple(given_headers), value, DetectionsMade)


@settings(deadline=None, max_examples=60)
@given(st.none() | st.binary(max_size=100))
def test_any_value_under_right_headers_raises_only_event_error(value: bytes | None) -> None:
    with pytest.raises(EventError):
        decode(headers(), value, FrameCaptured)


def test_a_newer_version_raises_event_version_error() -> None:
    with pytest.raises(EventVersionError, match=r"frame\.captured up to version 1: update this program"):
        decode(headers(ce_type="standgale.frame.captured.v2"), b"{}", FrameCaptured)


@pytest.mark.parametrize(
    "name",
    [
        "standgale.frame.captured.v0",
        "standgale.frame.captured.v2x",
        "standgale.frame.captured.v",
        "standgale.detections.made.v2",
        "other.frame.captured.v2",
    ],
)
def test_other_types_do_not_raise_event_version_error(name: str) -> None:
    with pytest.raises(EventError):
        decode(headers(ce_type=name), b"{}", FrameCaptured)
