"""Identities computed from content, so that the same input has the same ids anywhere, ever.

This is what makes a retry, a replay or a rebuilt sink harmless: whatever is written twice is written under one key.
"""

from __future__ import annotations

from datetime import datetime
from uuid import NAMESPACE_URL, UUID, uuid5

from schemas.timestamps import format_utc

_FRAME = uuid5(NAMESPACE_URL, "standgale:frame")
_DETECTION = uuid5(NAMESPACE_URL, "standgale:detection")
_ANSWER = uuid5(NAMESPACE_URL, "standgale:detections-made")
_DEAD = uuid5(NAMESPACE_URL, "standgale:dead-letter")
_DEVICE = uuid5(NAMESPACE_URL, "standgale:device")

# A separator that no device id, model name or topic may contain keeps ("a", "bc") and ("ab", "c") apart.
_SEPARATOR = "\x1f"


def frame_id(device_id: str, captured_at: datetime, sha256: str) -> UUID:
    """The id of the frame that ``device_id`` took at ``captured_at`` (aware) with content hash ``sha256`` (hex)."""
    return uuid5(_FRAME, _SEPARATOR.join((device_id, format_utc(captured_at), sha256.lower())))


def detections_event_id(frame: UUID, job: UUID | None, model_name: str, model_version: str) -> UUID:
    """The id of the one `detections.made` event that answers ``frame`` for ``job`` under one model version."""
    return uuid5(_ANSWER, _SEPARATOR.join((str(frame), str(job or ""), model_name, model_version)))


def detection_id(answer: UUID, index: int) -> UUID:
    """The id of the detection at place ``index`` of the answer ``answer`` (see :func:`detections_event_id`)."""
    return uuid5(_DETECTION, f"{answer}{_SEPARATOR}{index}")


def dead_letter_id(group: str, topic: str, partition: int, offset: int) -> UUID:
    """The id of the dead letter that consumer ``group`` wrote for the record at ``topic``/``partition``/``offset``."""
    return uuid5(_DEAD, _SEPARATOR.join((group, topic, str(partition), str(offset))))


def next_dead_letter_id(former: UUID, tries: int) -> UUID:
    """The id of the dead letter of a record that failed again when ``former`` was sent for the ``tries``-th time.

    The place of that record does not count: two runs that send ``former`` at once make two records of it.
    """
    return uuid5(_DEAD, _SEPARATOR.join((str(former), str(tries))))


def lost_range_id(group: str, topic: str, partition: int, first: int, end: int) -> UUID:
    """The id of the dead letter that tells ``group`` lost the offsets ``first`` up to, without, ``end``."""
    return uuid5(_DEAD, _SEPARATOR.join((group, topic, str(partition), str(first), str(end))))


def device_uuid(device_id: str) -> UUID:
    """The row id of a device in tables that want a UUID."""
    return uuid5(_DEVICE, device_id)
