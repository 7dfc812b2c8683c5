"""Query parameters of the stream, and their effect on an event."""

from __future__ import annotations

from uuid import UUID

import orjson
import pytest

from infra.broker.port import InRecord
from schemas.cloudevents import Attributes, to_headers
from schemas.errors import EventError
from schemas.events import DetectionsMade
from sinks.sse.filters import EVERYTHING, FilterError, FilterFields, GeoArea, StreamFilter, parse_filter
from sinks.sse.ring import StreamEvent
from standgale.testing.factories import detections_made

JOB = UUID("0b5d7c2e-7a67-5d0e-9b52-5d6a3c1f2e4b")


def event(*found: tuple[str, float], **changes: object) -> DetectionsMade:
    detections = [
        {
            "id": f"00000000-0000-5000-8000-{index:012d}",
            "label": label,
            "class_id": 0,
            "confidence": confidence,
            "box": {"x1": 0.1, "y1": 0.1, "x2": 0.2, "y2": 0.2},
        }
        for index, (label, confidence) in enumerate(found)
    ]
    fields: dict[str, object] = {
        "id": JOB,
        "frame_id": JOB,
        "captured_at": "2026-11-20T12:00:00.000001Z",
        "camera": None,
        "detections": detections,
    }
    return detections_made(**(fields | changes))


def record(made: DetectionsMade, value: bytes | None = None) -> InRecord:
    headers = to_headers(
        Attributes(
            id=str(made.id),
            source="test",
            type=made.event_type(),
            time=made.detected_at,
            partition_key=made.device_id,
        )
    )
    return InRecord("detections", 2, 7, 0, made.device_id, made.to_bytes() if value is None else value, headers)


def labels(view: bytes | None) -> list[str]:
    assert view is not None
    return [one["label"] for one in orjson.loads(view)["detections"]]


def test_without_parameters_everything_passes() -> None:
    assert parse_filter([]) == EVERYTHING
    assert not EVERYTHING.of_detections


def test_repeated_parameters_add_up() -> None:
    wanted = parse_filter([("device", "a"), ("device", "b"), ("label", "car"), ("label", "boat"), ("job", str(JOB))])
    assert wanted.devices == {"a", "b"}
    assert wanted.labels == {"car", "boat"}
    assert wanted.jobs == {JOB}


def test_parse_filter_equal_filters_in_any_order_have_one_key() -> None:
    one = parse_filter([("label", "car"), ("confidence", "0.5"), ("label", "boat")])
    other = parse_filter([("label", "boat"), ("label", "car"), ("confidence", "0.50")])
    assert hash(one) == hash(other)
    assert one == other


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("confidence", "high"),
        ("confidence", "1.1"),
        ("confidence", "-0.1"),
        ("confidence", "nan"),
        ("device", "a b"),
        ("device", ""),
        ("label", ""),
        ("label", "x" * 101),
        ("job", "7"),
        ("area", "1,2,3"),
        ("area", "1,2,3,x"),
        ("area", "0,10,0,-10"),
        ("area", "0,0,0,91"),
        ("colour", "red"),
    ],
)
def test_bad_parameters_are_named(name: str, value: str) -> None:
    with pytest.raises(FilterError, match=name):
        parse_filter([(name, value)])


def test_confidence_can_be_given_once_and_labels_a_hundred_times() -> None:
    with pytest.raises(FilterError, match="confidence"):
        parse_filter([("confidence", "0.1"), ("confidence", "0.2")])
    with pytest.raises(FilterError, match="label"):
        parse_filter([("label", f"l{number}") for number in range(101)])


def test_an_area_may_cross_the_date_line() -> None:
    assert GeoArea(170, -10, -170, 10).holds(179, 0)
    assert GeoArea(170, -10, -170, 10).holds(-179, 0)
    assert not GeoArea(170, -10, -170, 10).holds(0, 0)
    assert GeoArea(-10, -10, 10, 10).holds(10, -10)
    assert not GeoArea(-10, -10, 10, 10).holds(0, 11)


def test_the_unfiltered_view_is_the_published_bytes_themselves() -> None:
    made = event(("car", 0.9))
    entry = StreamEvent.read(record(made))
    assert entry.filtered_data(EVERYTHING) is entry.data
    assert entry.data == made.to_bytes()


def test_line_breaks_between_tokens_do_not_break_the_stream() -> None:
    made = event(("car", 0.9), metadata={"note": "two\r\nlines"})
    pretty = orjson.dumps(orjson.loads(made.to_bytes()), option=orjson.OPT_INDENT_2).replace(b"\n", b"\r\n")
    data = StreamEvent.read(record(made, pretty)).data
    assert b"\n" not in data
    assert b"\r" not in data
    assert DetectionsMade.from_bytes(data) == made


def test_detections_are_cut_and_frames_without_a_match_skipped() -> None:
    entry = StreamEvent.read(record(event(("car", 0.9), ("boat", 0.4), ("car", 0.3))))
    assert labels(entry.filtered_data(StreamFilter(labels=frozenset({"car"})))) == ["car", "car"]
    assert labels(entry.filtered_data(StreamFilter(labels=frozenset({"car"}), confidence=0.9))) == ["car"]
    assert labels(entry.filtered_data(StreamFilter(confidence=0.4))) == ["car", "boat"]
    assert entry.filtered_data(StreamFilter(labels=frozenset({"person"}))) is None
    assert entry.filtered_data(StreamFilter(confidence=0.95)) is None


def test_an_empty_frame_passes_only_without_a_detection_filter() -> None:
    entry = StreamEvent.read(record(event()))
    assert entry.filtered_data(EVERYTHING) is not None
    assert entry.filtered_data(StreamFilter(devices=frozenset({"drone-1"}))) is not None
    assert entry.filtered_data(StreamFilter(confidence=0.0)) is None


def test_unknown_fields_of_a_newer_version_stay_in_a_cut_view() -> None:
    made = event(("car", 0.9), ("boat", 0.4))
    value = orjson.dumps({**orjson.loads(made.to_bytes()), "added_later": 1})
    view = StreamEvent.read(record(made, value)).filtered_data(StreamFilter(confidence=0.5))
    assert view is not None
    assert orjson.loads(view)["added_later"] == 1


def test_frame_filters() -> None:
    facts = FilterFields.of(event(job_id=JOB, camera={"latitude": 50.8, "longitude": -0.1}))
    assert StreamFilter(devices=frozenset({"drone-1"}), jobs=frozenset({JOB}), area=GeoArea(-1, 50, 1, 51)).takes_frame(
        facts
    )
    assert not StreamFilter(devices=frozenset({"drone-2"})).takes_frame(facts)
    assert not StreamFilter(area=GeoArea(1, 50, 2, 51)).takes_frame(facts)
    nowhere = FilterFields.of(event())
    assert not StreamFilter(area=GeoArea(-180, -90, 180, 90)).takes_frame(nowhere)
    assert not StreamFilter(jobs=frozenset({JOB})).takes_frame(nowhere)


def test_frames_of_jobs_are_left_out_unless_their_job_is_named() -> None:
    of_job, live = (FilterFields.of(event(job_id=job)) for job in (JOB, None))
    assert not EVERYTHING.takes_frame(of_job)
    assert EVERYTHING.takes_frame(live)
    assert StreamFilter(jobs=frozenset({JOB})).takes_frame(of_job)
    assert not StreamFilter(jobs=frozenset({JOB})).takes_frame(live)


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff\xfe", b"null", b"[]"])
def test_a_poison_record_is_an_event_error(value: bytes) -> None:
    with pytest.raises(EventError):
        StreamEvent.read(record(event(), value))
