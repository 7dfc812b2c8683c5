"""Responses of the Annotations service: what is read of them, and what is left out."""

from __future__ import annotations

from uuid import UUID

import orjson
import pytest

from sinks.annotations.responses import Returned, is_of_service, read_response
from tests.harnesses.annotation_site import found_event

EVENT = found_event(0, UUID(int=1))


@pytest.mark.parametrize(
    "body", [None, b"", b"null", b"7", b'{"annotations": 7}', b'{"id": true}', b'{"id": "a\\u0000"}']
)
def test_read_response_without_content_returns_nothing(body: bytes | None) -> None:
    assert read_response(body, EVENT) == Returned()


@pytest.mark.parametrize(
    ("body", "media_type", "expected"),
    [
        (b"", "", True),
        (b"null", "text/plain", True),
        (b'{"id": 7}', "text/html", True),
        (b"<html>sign in</html>", "text/html", False),
        (b"created", "application/json", False),
        (b"{", "application/json", False),
        (b"[" * 200_000 + b"]" * 200_000, "application/json", False),
        (b'{"notes": "\\ud800", "score": NaN}', "application/json", True),
        (None, "application/json", True),
        (None, "application/hal+json", True),
        (None, "text/html", False),
    ],
)
def test_a_page_is_no_response_of_the_service(body: bytes | None, media_type: str, expected: bool) -> None:
    assert is_of_service(body, media_type) is expected


@pytest.mark.parametrize("wrong", [b'"notes": "\\ud800"', b'"centerX": NaN'])
def test_nan_and_half_a_character_make_one_annotation_wrong(wrong: bytes) -> None:
    found = read_response(
        b'{"id": 7, "annotations": [{"annotationType": "a", %s}, {"annotationType": "b"}]}' % wrong, EVENT
    )
    assert ([row["annotation_type"] for row in found.rows], found.unreadable, found.annotation_id) == (["b"], 1, "7")


@pytest.mark.parametrize(("given", "kept"), [("a-1", "a-1"), (7, "7"), ("x" * 256, None), (1.5, None), ([], None)])
def test_read_response_keeps_an_id_that_is_text_or_a_number(given: object, kept: str | None) -> None:
    assert read_response(orjson.dumps({"id": given}), EVENT).annotation_id == kept


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"annotationType": "x" * 51},
        {"annotationType": "a\0"},
        {"annotationType": "a", "centerX": 1.5},
        {"annotationType": "a", "centerX": 0.5, "centerY": 0.5, "width": 0, "height": 0.5},
        {"annotationType": "a", "centerX": 0.5, "centerY": 0.5, "width": 0.5, "height": 0.0000001},
        {"annotationType": "a", "centerX": 0, "centerY": 0, "width": 0, "height": 0, "label": "bird"},
        {"annotationType": "a", "label": "x" * 101},
        {"annotationType": "a", "annotatedAt": "2026-05-01T12:00:00"},
        {"annotationType": "a", "detection": -1},
        7,
    ],
)
def test_an_annotation_that_no_row_can_hold_is_counted_and_left_out(wrong: object) -> None:
    found = read_response(orjson.dumps([wrong, {"annotationType": "false_positive"}]), EVENT)
    assert ([row["annotation_type"] for row in found.rows], found.unreadable) == (["false_positive"], 1)


def test_a_false_positive_needs_no_box() -> None:
    given = {"annotationType": "false_positive", "centerX": 0, "centerY": 0, "width": 0, "height": 0}
    found = read_response(orjson.dumps([given]), EVENT)
    assert ([row["corrected_bbox"] for row in found.rows], found.unreadable) == ([None], 0)


def test_a_detection_that_was_not_posted_is_none() -> None:
    given = [{"annotationType": "a", "detection": place} for place in (0, 1)]
    rows = read_response(orjson.dumps(given), EVENT).rows
    assert [row["detection_id"] for row in rows] == [str(EVENT.detections[0].id), None]


def test_ids_of_rows_are_the_same_each_time_and_differ_by_frame() -> None:
    body = orjson.dumps(
        [{"annotationType": "a", "id": "1"}, {"annotationType": "b"}, {"annotationType": "a", "id": "1"}]
    )
    first, again, other = (read_response(body, event).rows for event in (EVENT, EVENT, found_event(1, UUID(int=1))))
    assert first == again
    assert len(first) == 2
    assert not {row["id"] for row in first} & {row["id"] for row in other}


def test_of_very_many_annotations_a_thousand_are_read() -> None:
    found = read_response(orjson.dumps([{"annotationType": "a"}] * 1_005), EVENT)
    assert (len(found.rows), found.unreadable) == (1_000, 5)
