"""Defines the event that reports what was counted in one minute of one device."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from schemas.event_base import DeviceId, Event, EventPart, ModelRef, UtcDatetime

MOST_LABELS = 500
"""The most labels that one window lists; it makes the event small enough for every topic."""
StatisticsSource = Literal["live", "jobs"]
"""Which frames a window counts: those that devices send, or those of jobs and media."""

_Count = Annotated[int, Field(ge=0)]
_Milliseconds = Annotated[float, Field(ge=0)]


class ClassStatistics(EventPart):
    """Says how often one label was found."""

    label: Annotated[str, Field(min_length=1, max_length=100)]
    detections: Annotated[int, Field(ge=1)]
    frames: Annotated[int, Field(ge=1)]
    """Frames with at least one of them"""
    mean_confidence: Annotated[float, Field(ge=0, le=1)]


class Spread(EventPart):
    """Says how long something took for the frames of a window, in milliseconds; a negative time counts as 0."""

    mean_ms: _Milliseconds
    p50_ms: _Milliseconds
    """Half of the frames took at most so long; it and the next two are up to a tenth too high"""
    p95_ms: _Milliseconds
    p99_ms: _Milliseconds
    max_ms: _Milliseconds


class FrameTimes(EventPart):
    """Says how long the steps of the frames took."""

    captured_to_received: Spread
    """From the device's clock to the gateway's: transfer, and what the two clocks differ"""
    lag: Spread
    """How long the frames waited before a detector began with them"""
    received_to_detected: Spread
    captured_to_detected: Spread


class StatisticsCounted(Event):
    """Reports what was counted so far of the frames that one device captured in one minute.

    It comes again with a larger ``revision`` when further frames of that minute are counted, however late they are.
    """

    event_name: ClassVar[str] = "statistics.counted"

    id: UUID
    """Computed from the window and its revision"""
    window_id: UUID
    """Computed from device, minute, model and source: the same for all revisions"""
    device_id: DeviceId
    """The device that took the frames; also the record's key"""
    minute: UtcDatetime
    """When the minute begins, UTC; a frame belongs to the minute in which it was captured"""
    model: ModelRef
    """The model version that detected them"""
    source: StatisticsSource
    revision: Annotated[int, Field(ge=1)]
    """Of several events of a window, the one with the largest revision is right"""
    frames: Annotated[int, Field(ge=1)]
    """Frames that were detected, each once; one that two jobs asked for counts for both"""
    frames_with_detections: _Count
    frames_per_s: Annotated[float, Field(ge=0)]
    """The frames by the 60 seconds of the minute"""
    first_captured_at: UtcDatetime
    last_captured_at: UtcDatetime
    last_detected_at: UtcDatetime
    """When the latest of the frames was detected"""
    clock_ahead: _Count
    """Frames that arrived before they were captured: the device's clock is ahead"""
    detections: _Count
    classes: Annotated[list[ClassStatistics], Field(max_length=MOST_LABELS)]
    """The labels that were found, in alphabetical order; no more than the first 500 of them"""
    other_detections: _Count
    """Detections with labels that ``classes`` leaves out"""
    times: FrameTimes
