"""Dead letters become the errors of jobs' files: stable codes, and no text that is the operator's only."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from detectors.errors import EngineCrashError, ImageTooCostlyError, ModelLoadError, TooManyTilesError
from infra.errors import ImageCorruptError, ImageMissingError, RecordTooLargeError
from infra.failure.dead_letter_records import dead_letter
from schemas.cloudevents import decode
from schemas.event_base import Event
from schemas.events import DeadLetter
from sinks.postgres.job_failures import failure_of, public_text
from standgale.testing.factories import detections_made, frame_captured, in_record, out_record

JOB = uuid4()


def letter(event: Event, error: Exception, *, group: str = "detector", whole: bool = True) -> DeadLetter:
    sent = out_record(event)
    record = in_record(value=sent.value, headers=sent.headers)
    made = dead_letter(record, group=group, error=error, attempts=1, topic="frames.dead", whole=whole)
    return decode(made.headers, made.value, DeadLetter)


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (ImageCorruptError("the JPEG ends early"), "FILE_ERROR", True),
        (ImageMissingError("file:///frames/a.jpg is not there"), "FILE_ERROR", True),
        (ImageTooCostlyError("too many pixels"), "FILE_ERROR", True),
        (ModelLoadError("small 2.0 is not in the store"), "MODEL_LOAD_ERROR", True),
        (RecordTooLargeError("the detections event has 5 MB"), "STORAGE_ERROR", True),
        (TooManyTilesError("the frame has 9,000 tiles"), "INFERENCE_ERROR", True),
        (EngineCrashError("the engine crashed at node 7"), "INFERENCE_ERROR", False),
        (ValueError("a defect"), "INFERENCE_ERROR", False),
    ],
)
def test_each_reason_has_a_code_of_clients(error: Exception, code: str, shown: bool) -> None:
    """C-S2-082, C-S2-083."""
    frame = frame_captured(1, job_id=JOB)
    dead = letter(frame, error)
    failure = failure_of(dead)
    assert failure is not None
    assert (failure.job_id, failure.frame_id, failure.code) == (JOB, frame.frame_id, code)
    assert (failure.message == public_text(str(error))) == shown
    assert (str(dead.id) in failure.message) != shown


def test_letters_that_are_of_no_job_are_none_of_its_failures() -> None:
    made = detections_made(1, job_id=JOB)
    error = ImageCorruptError("x")
    assert failure_of(letter(frame_captured(1), error)) is None
    assert failure_of(letter(frame_captured(1, job_id=JOB), error, whole=False)) is None
    assert failure_of(letter(made, error, group="sink.sse")) is None
    assert failure_of(letter(detections_made(1), error, group="sink.postgres")) is None
    stored = failure_of(letter(made, error, group="sink.postgres"))
    assert stored is not None and stored.code == "STORAGE_ERROR"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("file:///var/frames/a.jpg: ends early", "… ends early"),
        ("s3://bucket/key/a.jpg is not there", "… is not there"),
        ("/var/lib/models/small/model.yaml: no such version", "…: no such version"),
        ("(/etc/standgale/rules.pl)", "(…)"),
        ("1/2 of 3/4 is 0.375, at a/b", "1/2 of 3/4 is 0.375, at a/b"),
        ("a\0b", "ab"),
    ],
)
def test_places_of_the_operator_are_left_out_of_messages(message: str, shown: str) -> None:
    assert public_text(message) == shown


def test_a_message_keeps_to_its_column() -> None:
    failure = failure_of(letter(frame_captured(1, job_id=UUID(int=1)), ImageCorruptError("x" * 9_000)))
    assert failure is not None and len(failure.message) <= 4_000
