"""The content of dead letters, of failed and of lost records."""

from __future__ import annotations

import logging
from uuid import UUID

import pytest
from prometheus_client import REGISTRY

from infra.broker.port import InRecord, Loss, TopicPartition
from infra.errors import ImageMissingError
from infra.failure.dead_letter_records import dead_letter, lost_letter, report_loss
from infra.failure.error_texts import UNEXPECTED
from infra.telemetry.logs import MASK, configure_logging
from infra.telemetry.settings import TelemetrySettings
from schemas.cloudevents import decode, header
from schemas.events import DeadLetter, LostRange
from schemas.ids import dead_letter_id

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FRAME = UUID(int=5)
VALUE = b'{"frame_id": "%s", "device_id": "cam-7", "more": 1}' % str(FRAME).encode()
RECORD = InRecord(
    "frames.live", 2, 40, 1_700_000_000_000, "cam-7", VALUE, (("a", b"\xff\x00"), ("traceparent", PARENT))
)


def test_a_dead_letter_holds_reason_and_original_byte_for_byte() -> None:
    out = dead_letter(RECORD, group="sink.x", error=ImageMissingError("no such image"), attempts=3, topic="sinks.dead")
    letter = decode(out.headers, out.value, DeadLetter)
    assert out.topic == "sinks.dead"
    assert out.key == "cam-7"
    assert header(out.headers, "traceparent") == PARENT.decode()
    assert header(out.headers, "ce_id") == str(letter.id)
    assert header(out.headers, "ce_source") == "/standgale/sink.x"
    assert letter.id == dead_letter_id("sink.x", "frames.live", 2, 40)
    assert (letter.group, letter.reason, letter.message, letter.attempts) == (
        "sink.x",
        "IMAGE_MISSING",
        "no such image",
        3,
    )
    assert (letter.device_id, letter.frame_id) == ("cam-7", FRAME)
    original = letter.original
    assert (original.topic, original.partition, original.offset) == ("frames.live", 2, 40)
    assert original.timestamp_ms == RECORD.timestamp_ms
    assert (original.key, original.value) == (RECORD.key, VALUE)
    assert tuple(original.headers) == RECORD.headers
    assert not original.omitted


@pytest.mark.parametrize(
    "value",
    [None, b"", b"\xff\xfe", b"[1]", b'"x"', b'{"device_id": 7, "frame_id": "nope"}', b'{"device_id": null}'],
)
def test_dead_letter_of_any_record_value(value: bytes | None) -> None:
    record = InRecord("frames.live", 0, 0, -1, None, value, ())
    out = dead_letter(record, group="g", error=RuntimeError("x" * 10_000), attempts=1, topic="frames.dead")
    letter = decode(out.headers, out.value, DeadLetter)
    assert (letter.original.value, letter.original.key) == (value, None)
    assert (letter.device_id, letter.frame_id, letter.reason) == (None, None, UNEXPECTED)
    assert letter.original.timestamp_ms == 0
    assert len(letter.message) == 4000


def test_dead_letter_without_original_names_where_to_read_it() -> None:
    error = ImageMissingError("y" * 5_000)
    out = dead_letter(RECORD, group="g", error=error, attempts=1, topic="sinks.dead", whole=False)
    letter = decode(out.headers, out.value, DeadLetter)
    assert letter.original.omitted
    assert (letter.original.value, letter.original.headers) == (None, [])
    assert letter.message.endswith(
        f"(original of {len(VALUE)} bytes left out: it is larger than sinks.dead accepts; read it at its own offset)"
    )
    assert len(letter.message) == 4000


def test_a_dead_letter_holds_no_known_secret() -> None:
    root = logging.getLogger()
    handlers = list(root.handlers)
    configure_logging(TelemetrySettings(), service="test", secrets=("open-sesame",))
    try:
        out = dead_letter(RECORD, group="g", error=RuntimeError("login open-sesame"), attempts=1, topic="sinks.dead")
    finally:
        configure_logging(TelemetrySettings(), service="test")
        root.handlers[:] = handlers
    assert decode(out.headers, out.value, DeadLetter).message == f"RuntimeError: login {MASK}"


def test_a_loss_is_one_dead_letter_that_names_the_range() -> None:
    loss = Loss(TopicPartition("detections", 3), first=100, end=115, epoch=2)
    out = lost_letter(loss, group="sink.x", topic="sinks.dead")
    letter = decode(out.headers, out.value, DeadLetter)
    again = lost_letter(loss, group="sink.x", topic="sinks.dead")
    assert decode(again.headers, again.value, DeadLetter).id == letter.id
    assert (letter.reason, letter.group) == ("RECORDS_LOST", "sink.x")
    assert letter.lost == LostRange(first=100, end=115)
    assert (letter.original.topic, letter.original.partition, letter.original.offset) == ("detections", 3, 100)
    assert "up to 15 records of detections/3 (offsets 100 to 114)" in letter.message


def test_a_loss_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    report_loss(Loss(TopicPartition("detections", 3), first=100, end=115, epoch=2), "g-loss")
    labels = {"group": "g-loss", "topic": "detections"}
    assert REGISTRY.get_sample_value("standgale_records_lost_total", labels) == 15
    assert [record.levelname for record in caplog.records] == ["ERROR"]
