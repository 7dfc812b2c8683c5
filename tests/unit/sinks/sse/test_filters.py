"""Query parameters of the stream, and their effect on an event."""

from __future__ import annotations

from uuid import UUID

import orjson
import pytest

from infra.auth.scopes import DeviceScope
from infra.broker.port import InRecord
from schemas.cloudevents import Attributes, to_headers
from schemas.earth_areas import EarthArea
from schemas.errors import EventError
from schemas.events import DetectionsMade
from sinks.sse.filters import EVERYTHING, FilterError, FilterFields, StreamFilter, parse_query
from sinks.sse.pictures.addresses import PictureAddresses
from sinks.sse.ring import StreamEvent
from standgale.testing.factories import detections_made

JOB = UUID("0b5d7c2e-7a67-5d0e-9b52-5d6a3c1f2e4b")
PICTURES = PictureAddresses()


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
    assert parse_query([]).wanted == EVERYTHING
    assert not EVERYTHING.of_detections


def test_repeated_parameters_add_up() -> None:
    wanted = parse_query(
        [("device", "a"), ("device", "b"), ("label", "car"), ("label", "boat"), ("job", str(JOB))]
    ).wanted
    assert wanted.devices == {"a", "b"}
    assert wanted.labels == {"car", "boat"}
    assert wanted.jobs == {JOB}


def test_parse_query_equal_filters_in_any_order_have_one_key() -> None:
    one = parse_query([("label", "car"), ("confidence", "0.5"), ("label", "boat")]).wanted
    other = parse_query([("label", "boat"), ("label", "car"), ("confidence", "0.50")]).wanted
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
        ("area", "POLYGON((0 0, 2 2, 2 0, 0 2))"),
        ("flight", "a/b"),
        ("media", "../x"),
        ("media", ""),
        ("colour", "red"),
    ],
)
def test_bad_parameters_are_named(name: str, value: str) -> None:
    with pytest.raises(FilterError, match=name):
        parse_query([(name, value)])


def test_confidence_can_be_given_once_and_labels_a_hundred_times() -> None:
    with pytest.raises(FilterError, match="confidence"):
        parse_query([("confidence", "0.1"), ("confidence", "0.2")])
    with pytest.raises(FilterError, match="label"):
        parse_query([("label", f"l{number}") for number in range(101)])


def test_the_unfiltered_view_is_the_published_bytes_but_for_the_address_of_the_image() -> None:
    made = event(("car", 0.9))
    entry = StreamEvent.read(record(made), PICTURES)
    assert entry.filtered_data(EVERYTHING) is entry.data
    address = orjson.loads(entry.data)["image"]["uri"]
    assert entry.data.replace(address.encode(), made.image.uri.encode()) == made.to_bytes()


def test_line_breaks_between_tokens_do_not_break_the_stream() -> None:
    made = event(("car", 0.9), metadata={"note": "two\r\nlines"})
    pretty = orjson.dumps(orjson.loads(made.to_bytes()), option=orjson.OPT_INDENT_2).replace(b"\n", b"\r\n")
    data = StreamEvent.read(record(made, pretty), PICTURES).data
    assert b"\n" not in data
    assert b"\r" not in data
    seen = DetectionsMade.from_bytes(data)
    assert seen.image.uri != made.image.uri
    assert seen.model_copy(update={"image": made.image}) == made


def test_detections_are_cut_and_frames_without_a_match_skipped() -> None:
    entry = StreamEvent.read(record(event(("car", 0.9), ("boat", 0.4), ("car", 0.3))), PICTURES)
    assert labels(entry.filtered_data(StreamFilter(labels=frozenset({"car"})))) == ["car", "car"]
    assert labels(entry.filtered_data(StreamFilter(labels=frozenset({"car"}), confidence=0.9))) == ["car"]
    assert labels(entry.filtered_data(StreamFilter(confidence=0.4))) == ["car", "boat"]
    assert entry.filtered_data(StreamFilter(labels=frozenset({"person"}))) is None
    assert entry.filtered_data(StreamFilter(confidence=0.95)) is None


def test_an_empty_frame_passes_only_without_a_detection_filter() -> None:
    entry = StreamEvent.read(record(event()), PICTURES)
    assert entry.filtered_data(EVERYTHING) is not None
    assert entry.filtered_data(StreamFilter(devices=frozenset({"drone-1"}))) is not None
    assert entry.filtered_data(StreamFilter(confidence=0.0)) is None


def test_unknown_fields_of_a_newer_version_stay_in_a_cut_view() -> None:
    made = event(("car", 0.9), ("boat", 0.4))
    value = orjson.dumps({**orjson.loads(made.to_bytes()), "added_later": 1})
    view = StreamEvent.read(record(made, value), PICTURES).filtered_data(StreamFilter(confidence=0.5))
    assert view is not None
    assert orjson.loads(view)["added_later"] == 1


def test_frame_filters() -> None:
    facts = FilterFields.of(event(job_id=JOB, camera={"latitude": 50.8, "longitude": -0.1}))
    assert StreamFilter(
        devices=frozenset({"drone-1"}), jobs=frozenset({JOB}), area=EarthArea.box(-1, 50, 1, 51)
    ).takes_frame(facts)
    assert not StreamFilter(devices=frozenset({"drone-2"})).takes_frame(facts)
    assert not StreamFilter(area=EarthArea.box(1, 50, 2, 51)).takes_frame(facts)
    nowhere = FilterFields.of(event())
    assert not StreamFilter(area=EarthArea.box(-180, -90, 180, 90)).takes_frame(nowhere)
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
        StreamEvent.read(record(event(), value), PICTURES)


def test_parse_query_keeps_names_of_jobs_and_media() -> None:
    query = parse_query([("job", "job_a1b2c3d4"), ("job", str(JOB)), ("media", "film-1"), ("media", "film-2")])
    assert query.job_names == {"job_a1b2c3d4"}
    assert query.wanted.jobs == {JOB}
    assert query.media == {"film-1", "film-2"}
    assert query.is_of_jobs
    assert not parse_query([("device", "drone-1")]).is_of_jobs


def test_frames_of_a_flight() -> None:
    first, other, none = (FilterFields.of(event(flight_id=flight)) for flight in ("f1", "f2", None))
    wanted = parse_query([("flight", "f1"), ("flight", "f3")]).wanted
    assert [wanted.takes_frame(facts) for facts in (first, other, none)] == [True, False, False]


def test_an_area_takes_frames_that_show_a_part_of_it() -> None:
    # The camera is 143 m west of the area; its picture is 300 m wide, or of unknown size.
    position = {"longitude": 9.998, "latitude": 50.005, "heading_deg": 0.0}
    width = event().image.width
    wide = FilterFields.of(event(camera={**position, "gsd_m": 300 / width}))
    unknown = FilterFields.of(event(camera=position))
    polygon = parse_query([("area", "POLYGON((10 50, 10.01 50, 10.01 50.01, 10 50.01))")]).wanted
    assert [polygon.takes_frame(facts) for facts in (wide, unknown)] == [True, False]
    assert parse_query([("area", "9.99,50,10.01,50.01")]).wanted.takes_frame(unknown)


def test_a_scope_hides_devices_and_no_jobs() -> None:
    scope = DeviceScope.of(["drone-*", "mast-1"])
    wanted = StreamFilter(scope=scope)
    devices = ("drone-7", "mast-1", "mast-10", "dron")
    assert [wanted.takes_frame(FilterFields.of(event(device=each))) for each in devices] == [True, True, False, False]
    narrow = StreamFilter(scope=DeviceScope.of(["drone-7", "mast-10"]).within(scope))
    assert [narrow.takes_frame(FilterFields.of(event(device=each))) for each in devices] == [True, False, False, False]
    assert StreamFilter(scope=scope, jobs=frozenset({JOB})).takes_frame(
        FilterFields.of(event(device="jobs-01", job_id=JOB))
    )
    assert hash(wanted) != hash(narrow)
