"""The offsets of the newest detections events are kept by frame."""

from __future__ import annotations

from dataclasses import replace

from ingest.answers.offsets import DetectionsOffsets, frame_in
from schemas.cloudevents import JOB_HEADER
from standgale.testing.factories import detections_made, in_record, out_record


def test_offsets_of_the_newest_events_are_kept() -> None:
    offsets = DetectionsOffsets(3)
    for offset, frame in enumerate("abcad"):
        offsets.add(frame, offset)
    assert [offsets.find(frame) for frame in "abcd"] == [3, None, 2, 4]
    assert (len(offsets), offsets.missing) == (3, 0)


def test_earlier_events_never_replace_newer_ones() -> None:
    offsets = DetectionsOffsets(3)
    offsets.add("a", 10)
    offsets.add("b", 11)
    offsets.add_earlier([("c", 1), ("d", 2), ("a", 3)])
    assert [offsets.find(frame) for frame in "abcd"] == [10, 11, None, 2]
    offsets.clear()
    assert offsets.missing == 3


def test_frame_of_a_record_is_that_of_an_event_without_job() -> None:
    made = out_record(detections_made(1))
    record = in_record(headers=made.headers)
    assert frame_in(record) == str(detections_made(1).frame_id)
    assert frame_in(replace(record, headers=(*record.headers, (JOB_HEADER, b"1")))) is None
    assert frame_in(replace(record, headers=(("ce_subject", b"\xff"),))) is None
