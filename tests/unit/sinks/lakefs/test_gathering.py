"""Tests how many frames the archive waits for."""

from __future__ import annotations

from uuid import uuid4

import pytest
from pydantic import ValidationError

from infra.broker.port import InRecord
from schemas.events import DetectionsMade, FrameBatch
from sinks.lakefs.gathering import CommitGathering
from sinks.lakefs.settings import MOST_RECORDS, LakeFsSettings
from standgale.testing.factories import detections_made


def record(event: DetectionsMade | None, offset: int = 0) -> InRecord:
    return InRecord("detections", 0, offset, 0, "drone-1", None if event is None else event.to_bytes(), ())


def batch_of(size: int, sent: int) -> list[InRecord]:
    batch = FrameBatch(id=uuid4(), frames=size)
    return [record(detections_made(number, batch=batch)) for number in range(sent)]


def test_frames_sent_alone_are_wanted_up_to_the_batch_size() -> None:
    # C-S1-074
    gathering = CommitGathering(10)
    alone = [record(detections_made(number)) for number in range(12)]
    assert [gathering.wanted(alone[:count]) for count in (0, 4, 10, 12)] == [10, 6, 0, 0]
    assert CommitGathering(LakeFsSettings(commit_strategy="immediate").frames_per_commit).wanted([]) == 1


def test_batch_that_has_begun_is_waited_for_whole() -> None:
    # C-S1-016
    gathering = CommitGathering(10)
    alone = [record(detections_made(90 + number)) for number in range(9)]
    assert gathering.wanted([*alone, *batch_of(50, 3)]) == 47
    assert gathering.wanted([*alone, *batch_of(50, 50)]) == 0
    assert gathering.wanted([*batch_of(4, 4), *batch_of(4, 1)]) == 3
    twice = batch_of(4, 3)
    assert gathering.wanted([*twice, *twice]) == 1, "a frame that is there twice counts once"
    assert gathering.wanted(batch_of(10 * MOST_RECORDS, 3)) == MOST_RECORDS - 3


@pytest.mark.parametrize(
    "value", [b"", b'{"batch":{', b'{"batch":{"id":"x","frames":1},"frame_id":"y"}', b'{"batch":{}}']
)
def test_record_that_is_no_event_counts_as_one_frame(value: bytes) -> None:
    broken = InRecord("detections", 0, 0, 0, "drone-1", value, ())
    assert CommitGathering(10).wanted([broken, record(None)]) == 8


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "lakefs", "endpoint_url": "http://localhost"}, "all three are needed"),
        ({"branch": "a/b"}, "branch"),
        ({"repository": "../x"}, "repository"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 10_001}, "batch_size"),
        ({"batch_timeout_s": 0.01}, "batch_timeout_s"),
        ({"batch_timeout_s": 90_000}, "batch_timeout_s"),
        ({"commit_strategy": "now"}, "commit_strategy"),
    ],
)
def test_archive_settings_that_cannot_work_are_refused(fields: dict[str, object], words: str) -> None:
    # C-S1-076, C-S1-097
    with pytest.raises(ValidationError, match=words):
        LakeFsSettings.model_validate(fields)


def test_archive_settings_have_the_defaults_of_the_seed() -> None:
    # C-S1-076, C-S1-097
    settings = LakeFsSettings()
    assert (settings.repository, settings.branch, settings.commit_strategy) == ("bird-detection", "main", "batch")
    assert (settings.batch_size, settings.batch_timeout_s) == (10, 300.0)
