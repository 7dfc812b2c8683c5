"""Makes the dead letters of failed and of lost records, and counts lost records."""

from __future__ import annotations

import logging
from contextlib import suppress
from uuid import UUID

import orjson

from infra.broker.event_records import event_record
from infra.broker.port import InRecord, Loss, OutRecord
from infra.failure.error_texts import LONGEST_TEXT, error_code, error_text
from infra.failure.metrics import RECORDS_LOST
from infra.failure.redrive import letter_of
from infra.telemetry.tracing import Trace, trace_of
from schemas.event_base import ModelRef
from schemas.events import DeadLetter, LostRange, OriginalRecord
from schemas.ids import dead_letter_id, lost_range_id, next_dead_letter_id
from schemas.timestamps import utc_now

logger = logging.getLogger(__name__)

LOST_REASON = "RECORDS_LOST"
"""The reason of a dead letter for records that retention deleted before they were read."""
_NO_KEY = "unknown"


def dead_letter(
    record: InRecord,
    *,
    group: str,
    error: BaseException,
    attempts: int,
    topic: str,
    whole: bool = True,
    model: ModelRef | None = None,
) -> OutRecord:
    """Return the dead letter of ``record`` for ``topic``, with the reason and the original, byte for byte.

    The same record in the same group always has the same id. ``model``: the one that a detector used. With ``whole``
    False the original's value and headers are left out, because the dead-letter topic does not accept so many bytes:
    the letter then names the original's topic, partition and offset, and re-driving reads it there.
    """
    device_id, frame_id = _ids(record)
    message = error_text(error)
    if not whole:
        size = len(record.value or b"")
        note = f" (original of {size} bytes left out: it is larger than {topic} accepts; read it at its own offset)"
        message = message[: LONGEST_TEXT - len(note)] + note
    letter = DeadLetter(
        id=_letter_id(record, group),
        group=group,
        reason=error_code(error),
        message=message,
        attempts=attempts,
        failed_at=utc_now(),
        device_id=device_id,
        frame_id=frame_id,
        model=model,
        original=_original(record, whole),
    )
    return _as_record(letter, topic, trace_of(record.headers))


def _original(record: InRecord, whole: bool) -> OriginalRecord:
    return OriginalRecord(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        # Kafka gives -1 for a record without a time.
        timestamp_ms=max(0, record.timestamp_ms),
        key=record.key,
        value=record.value if whole else None,
        headers=list(record.headers) if whole else [],
        omitted=not whole,
    )


def _letter_id(record: InRecord, group: str) -> UUID:
    former = letter_of(record.headers)
    if former is not None:
        return next_dead_letter_id(*former)
    return dead_letter_id(group, record.topic, record.partition, record.offset)


def lost_letter(loss: Loss, *, group: str, topic: str) -> OutRecord:
    """Return the one dead letter of all records in ``loss``, for ``topic``; the same loss has the same id."""
    place = loss.source
    letter = DeadLetter(
        id=lost_range_id(group, place.topic, place.partition, loss.first, loss.end),
        group=group,
        reason=LOST_REASON,
        message=loss_text(loss, group),
        attempts=1,
        failed_at=utc_now(),
        original=OriginalRecord(
            topic=place.topic,
            partition=place.partition,
            offset=loss.first,
            timestamp_ms=0,
            key=None,
            value=None,
            headers=[],
            omitted=True,
        ),
        lost=LostRange(first=loss.first, end=loss.end),
    )
    return _as_record(letter, topic)


def _as_record(letter: DeadLetter, topic: str, trace: Trace | None = None) -> OutRecord:
    return event_record(
        topic,
        letter,
        id=letter.id,
        source=f"/standgale/{letter.group}",
        subject=letter.device_id,
        time=letter.failed_at,
        key=letter.original.key or letter.device_id or _NO_KEY,
        trace=trace,
    )


def loss_text(loss: Loss, group: str) -> str:
    """Return what was lost, why, and what to do, for log, health and dead letter."""
    return (
        f"up to {loss.end - loss.first} records of {loss.source.topic}/{loss.source.partition} (offsets {loss.first} "
        f"to {loss.end - 1}) were deleted by the topic's retention before group {group} read them; let the group run "
        f"more often than retention_s of {loss.source.topic} in topics.yaml, or raise that"
    )


def report_loss(loss: Loss, group: str) -> None:
    """Log and count ``loss``; call it once the loss is committed, so that it is counted once."""
    RECORDS_LOST.labels(group, loss.source.topic).inc(loss.end - loss.first)
    logger.error("%s", loss_text(loss, group), extra={"code": LOST_REASON, "topic": loss.source.topic})


def _ids(record: InRecord) -> tuple[str | None, UUID | None]:
    """Return device and frame of a record; without a device in its value, the key is the device id."""
    device_id, frame_id = record.key, None
    try:
        data = orjson.loads(record.value or b"null")
    except orjson.JSONDecodeError:
        return device_id, None
    if isinstance(data, dict):
        named = data.get("device_id")
        device_id = named if isinstance(named, str) else device_id
        with suppress(ValueError):
            frame_id = UUID(str(data.get("frame_id")))
    return device_id, frame_id
