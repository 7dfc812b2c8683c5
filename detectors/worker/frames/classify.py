"""Decides for a record, before any work is done, whether it is processed, dropped, late, or not readable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from detectors.worker.frames.detections_event import detections_key
from detectors.worker.frames.lateness import Lateness, is_live_record
from detectors.worker.partitions.window import DetectionsKey, DuplicateWindow
from detectors.worker.pipeline.serving import AskedModel, LoadedModel
from infra.broker.port import InRecord
from schemas.cloudevents import decode
from schemas.errors import EventError, EventVersionError
from schemas.events import FrameCaptured


@dataclass(frozen=True, slots=True)
class Invalid:
    """Means that the record holds no frame."""

    error: EventError


@dataclass(frozen=True, slots=True)
class NewerVersion:
    """Means that the record holds an event of a newer version than this program can read."""

    error: EventVersionError


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Means that the frame has a detections event already, or is being processed."""

    event_key: DetectionsKey


@dataclass(frozen=True, slots=True)
class Late:
    """Means that the frame's turn came ``late_s`` seconds after its deadline, so that it is not processed now."""

    late_s: float


@dataclass(frozen=True, slots=True)
class ToProcess:
    """Means that the frame is to be processed by ``model``, which produces the event of ``event_key``."""

    frame: FrameCaptured
    model: LoadedModel | AskedModel
    event_key: DetectionsKey


Classified = Invalid | NewerVersion | Duplicate | Late | ToProcess


def classify_record(
    record: InRecord,
    window: DuplicateWindow,
    lateness: Lateness,
    choose: Callable[[FrameCaptured], LoadedModel | AskedModel],
    now: datetime,
) -> Classified:
    """Return what is to be done with ``record`` at ``now``; ``choose`` returns a frame's model. Changes nothing."""
    try:
        frame = decode(record.headers, record.value, FrameCaptured)
    except EventVersionError as error:
        return NewerVersion(error)
    except EventError as error:
        return Invalid(error)
    chosen = choose(frame)
    version = chosen.ref if isinstance(chosen, AskedModel) else chosen.model.card
    event_key = detections_key(frame, version, live=is_live_record(record))
    # A late duplicate is a duplicate, so this comes first.
    if window.contains(event_key):
        return Duplicate(event_key)
    late_s = lateness.seconds_late(record, frame, now)
    return ToProcess(frame, chosen, event_key) if late_s is None else Late(late_s)
