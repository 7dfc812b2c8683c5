"""Computes ids from content, so that the same input always has the same ids.

So a retry, a replay or a rebuilt sink does no harm: what is written twice is written under the same key.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import NAMESPACE_URL, UUID, uuid5

from schemas.timestamps import format_utc

_FRAME = uuid5(NAMESPACE_URL, "standgale:frame")
_DETECTION = uuid5(NAMESPACE_URL, "standgale:detection")
_DETECTIONS_EVENT = uuid5(NAMESPACE_URL, "standgale:detections-made")
_DEAD = uuid5(NAMESPACE_URL, "standgale:dead-letter")
_DEVICE = uuid5(NAMESPACE_URL, "standgale:device")
_FRAME_BATCH = uuid5(NAMESPACE_URL, "standgale:frame-batch")
_ARCHIVE_COMMIT = uuid5(NAMESPACE_URL, "standgale:archive-committed")
_JOB_FINISHED = uuid5(NAMESPACE_URL, "standgale:job-finished")
_STATISTICS = uuid5(NAMESPACE_URL, "standgale:statistics")

# No device id, model name or topic may contain this separator, so ("a", "bc") and ("ab", "c") give different ids.
_SEPARATOR = "\x1f"


def frame_id(device_id: str, captured_at: datetime, sha256: str) -> UUID:
    """Return the id of the frame that ``device_id`` took at ``captured_at`` (aware) with hash ``sha256`` (hex)."""
    return uuid5(_FRAME, _SEPARATOR.join((device_id, format_utc(captured_at), sha256.lower())))


def detections_event_id(frame: UUID, job: UUID | None, model_name: str, model_version: str) -> UUID:
    """Return the id of the one `detections.made` event for ``frame``, ``job`` and one model version."""
    return uuid5(_DETECTIONS_EVENT, _SEPARATOR.join((str(frame), str(job or ""), model_name, model_version)))


def detection_id(detections_event: UUID, index: int) -> UUID:
    """Return the id of the detection at ``index`` in ``detections_event`` (see :func:`detections_event_id`)."""
    return uuid5(_DETECTION, f"{detections_event}{_SEPARATOR}{index}")


def dead_letter_id(group: str, topic: str, partition: int, offset: int) -> UUID:
    """Return the id of the dead letter of ``group`` for the record at ``topic``/``partition``/``offset``."""
    return uuid5(_DEAD, _SEPARATOR.join((group, topic, str(partition), str(offset))))


def next_dead_letter_id(former: UUID, tries: int) -> UUID:
    """Return the id of the dead letter of a record that failed again, when ``former`` was sent the ``tries``-th time.

    It does not depend on the offset of that record: two runs that send ``former`` at once make two records of it.
    """
    return uuid5(_DEAD, _SEPARATOR.join((str(former), str(tries))))


def lost_range_id(group: str, topic: str, partition: int, first: int, end: int) -> UUID:
    """Return the id of the dead letter about the lost offsets ``first`` up to, without, ``end`` of ``group``."""
    return uuid5(_DEAD, _SEPARATOR.join((group, topic, str(partition), str(first), str(end))))


def device_uuid(device_id: str) -> UUID:
    """Return the row id of a device, for tables that need a UUID."""
    return uuid5(_DEVICE, device_id)


def job_finished_id(job: UUID) -> UUID:
    """Return the id of the one `job.finished` event of ``job``."""
    return uuid5(_JOB_FINISHED, str(job))


def statistics_window_id(device_id: str, minute: datetime, model_name: str, model_version: str, source: str) -> UUID:
    """Return the id of the window of ``device_id`` that begins at ``minute`` (aware), of one model and source."""
    parts = (device_id, format_utc(minute), model_name, model_version, source)
    return uuid5(_STATISTICS, _SEPARATOR.join(parts))


def statistics_event_id(window: UUID, revision: int) -> UUID:
    """Return the id of the one `statistics.counted` event of ``window`` with ``revision``."""
    return uuid5(_STATISTICS, f"{window}{_SEPARATOR}{revision}")


def frame_batch_id(frames: Iterable[UUID]) -> UUID:
    """Return the id of the batch that has ``frames``, in whatever order."""
    return uuid5(_FRAME_BATCH, _SEPARATOR.join(sorted(str(frame) for frame in frames)))


def archive_commit_id(batch: UUID, commit_id: str, part: int) -> UUID:
    """Return the id of the ``part``-th event that reports that ``batch`` is in the archive's commit ``commit_id``."""
    return uuid5(_ARCHIVE_COMMIT, _SEPARATOR.join((str(batch), commit_id, str(part))))
