"""Counts detections events: pure functions, whose results do not depend on the order or the grouping of the events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from schemas.events import Detection, DetectionsMade
from schemas.ids import statistics_window_id
from schemas.statistics_events import MOST_LABELS, StatisticsSource
from sinks.statistics.spread import Times, times_of

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
    tally = _Tally()
    tally.add(event)
    return tally.counts()


def count_events(events: Iterable[DetectionsMade]) -> dict[Window, Counts]:
    """Return the counts of each window of ``events``; an event that is there twice counts once."""
    tallies: dict[Window, _Tally] = {}
    seen: set[UUID] = set()
    for event in events:
        if event.id not in seen:
            seen.add(event.id)
            tallies.setdefault(window_of(event), _Tally()).add(event)
    return {window: tally.counts() for window, tally in tallies.items()}


class _Tally:
    """Adds up frames of one window in place, which is several times as fast as adding their counts."""

    def __init__(self) -> None:
        self._frames = self._with_detections = self._detections = self._clock_ahead = 0
        self._captured: list[datetime] = []
        self._detected: list[datetime] = []
        self._classes: dict[str, list[int]] = {}
        self._times: tuple[list[int], ...] = tuple([] for _ in _STEPS)

    def add(self, event: DetectionsMade) -> None:
        """Add the frame of ``event``."""
        captured, received, detected = event.captured_at, event.received_at, event.detected_at
        self._frames += 1
        self._detections += len(event.detections)
        self._captured.append(captured)
        self._detected.append(detected)
        if captured > received:
            self._clock_ahead += 1
        times = (
            _ms(received - captured),
            round(event.timings.queued_ms),
            _ms(detected - received),
            _ms(detected - captured),
        )
        for step, time_ms in zip(self._times, times, strict=True):
            step.append(time_ms)
        if event.detections:
            self._with_detections += 1
            self._add_detections(event.detections)

    def _add_detections(self, detections: Sequence[Detection]) -> None:
        in_frame: set[str] = set()
        for detection in detections:
            label = detection.label
            if "\0" in label:
                # It could be stored in no table, so this window never would.
                label = label.replace("\0", "\ufffd")
            count = self._classes.get(label)
            if count is None:
                count = self._classes[label] = [0, 0, 0]
            count[0] += 1
            count[2] += round(detection.confidence * CONFIDENCE_STEPS)
            if label not in in_frame:
                in_frame.add(label)
                count[1] += 1

    def counts(self) -> Counts:
        """Return what was added up; at least one frame was."""
        return Counts(
            self._frames,
            self._with_detections,
            self._detections,
            self._clock_ahead,
            min(self._captured),
            max(self._captured),
            max(self._detected),
            _first_labels({label: ClassCount(*count) for label, count in self._classes.items()}),
            {step: times_of(each) for step, each in zip(_STEPS, self._times, strict=True)},
        )


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
