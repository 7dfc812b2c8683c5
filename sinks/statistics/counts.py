"""Counts detections events: pure functions, whose results do not depend on the order or the grouping of the events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import NamedTuple
from uuid import UUID

from schemas.events import DetectionsMade
from schemas.ids import statistics_window_id
from schemas.statistics_events import MOST_LABELS, StatisticsSource
from sinks.statistics.spread import Times, single_time

WINDOW_S = 60
_MILLISECOND = timedelta(milliseconds=1)
CONFIDENCE_STEPS = 10_000
_STEPS = ("captured_to_received", "lag", "received_to_detected", "captured_to_detected")


class Window(NamedTuple):
    """Names what is counted together."""

    device_id: str
    minute: datetime
    model_name: str
    model_version: str
    source: StatisticsSource

    @property
    def id(self) -> UUID:
        """Its id, which is the same anywhere."""
        return statistics_window_id(*self)


class ClassCount(NamedTuple):
    """Holds what is counted of one label."""

    detections: int
    frames: int
    confidence_sum: int
    """In steps of 1/10,000, as confidences are rounded in events"""


@dataclass(frozen=True, slots=True)
class Counts:
    """Holds what is counted of the frames of one window; there is at least one."""

    frames: int
    frames_with_detections: int
    detections: int
    clock_ahead: int
    first_captured_at: datetime
    last_captured_at: datetime
    last_detected_at: datetime
    classes: Mapping[str, ClassCount] = field(default_factory=dict)
    """The alphabetically first labels, not more than MOST_LABELS"""
    times: Mapping[str, Times] = field(default_factory=dict)
    """By the names of the fields of FrameTimes"""

    def plus(self, other: Counts) -> Counts:
        """Return the counts of the frames of both, which must be different frames."""
        return Counts(
            self.frames + other.frames,
            self.frames_with_detections + other.frames_with_detections,
            self.detections + other.detections,
            self.clock_ahead + other.clock_ahead,
            min(self.first_captured_at, other.first_captured_at),
            max(self.last_captured_at, other.last_captured_at),
            max(self.last_detected_at, other.last_detected_at),
            _classes_of_both(self.classes, other.classes),
            {step: self.times[step].plus(other.times[step]) for step in _STEPS},
        )


def window_of(event: DetectionsMade) -> Window:
    """Return the window that counts ``event``: that of the minute in which its frame was captured."""
    captured = event.captured_at.astimezone(UTC)
    return Window(
        event.device_id,
        captured.replace(second=0, microsecond=0),
        event.model.name,
        event.model.version,
        "live" if event.job_id is None else "jobs",
    )


def count_event(event: DetectionsMade) -> Counts:
    """Return the counts of one frame."""
    classes: dict[str, ClassCount] = {}
    for detection in event.detections:
        # A label with NUL could be stored in no table, so this window never would.
        label = detection.label.replace("\0", "\ufffd")
        former = classes.get(label, ClassCount(0, 1, 0))
        confidence = round(detection.confidence * CONFIDENCE_STEPS)
        classes[label] = ClassCount(former.detections + 1, 1, former.confidence_sum + confidence)
    captured, received, detected = event.captured_at, event.received_at, event.detected_at
    times = (_ms(received - captured), round(event.timings.queued_ms), _ms(detected - received))
    return Counts(
        1,
        1 if event.detections else 0,
        len(event.detections),
        1 if captured > received else 0,
        captured,
        captured,
        detected,
        _first_labels(classes),
        {step: single_time(each) for step, each in zip(_STEPS, (*times, _ms(detected - captured)), strict=True)},
    )


def count_events(events: Iterable[DetectionsMade]) -> dict[Window, Counts]:
    """Return the counts of each window of ``events``; an event that is there twice counts once."""
    single: dict[Window, dict[UUID, Counts]] = {}
    for event in events:
        single.setdefault(window_of(event), {}).setdefault(event.id, count_event(event))
    return {window: reduce(Counts.plus, each.values()) for window, each in single.items()}


def _ms(duration: timedelta) -> int:
    return max(0, duration // _MILLISECOND)


def _classes_of_both(left: Mapping[str, ClassCount], right: Mapping[str, ClassCount]) -> Mapping[str, ClassCount]:
    both = dict(left)
    for label, count in right.items():
        former = both.get(label)
        both[label] = (
            count if former is None else ClassCount(*(one + two for one, two in zip(former, count, strict=True)))
        )
    return _first_labels(both)


def _first_labels(classes: Mapping[str, ClassCount]) -> Mapping[str, ClassCount]:
    """Return the alphabetically first labels.

    One that is left out stays out, however the events are grouped: there are MOST_LABELS before it for good. So those
    that stay have counted every detection.
    """
    if len(classes) <= MOST_LABELS:
        return classes
    return {label: classes[label] for label in sorted(classes)[:MOST_LABELS]}
