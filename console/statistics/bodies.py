"""Describes the response with statistics for the OpenAPI document; a test compares it with a real one."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from schemas.event_base import ModelRef
from schemas.statistics_events import ClassStatistics, FrameTimes, StatisticsSource


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class WindowData(_Body):
    """What was counted so far of the frames that one device captured in one minute, of one model version."""

    window_id: UUID
    device_id: str
    minute: datetime
    """When the minute begins"""
    model: ModelRef
    source: StatisticsSource
    revision: int
    """Grows when further frames of the minute are counted"""
    frames: int
    frames_with_detections: int
    frames_per_s: float
    """The frames by the 60 seconds of the minute"""
    first_captured_at: datetime
    last_captured_at: datetime
    last_detected_at: datetime
    clock_ahead: int
    """Frames that arrived before they were captured: the device's clock is ahead"""
    detections: int
    classes: list[ClassStatistics]
    """In alphabetical order, no more than the first 500"""
    other_detections: int
    """Detections with labels that ``classes`` leaves out"""
    times: FrameTimes


class StatisticsData(_Body):
    """A page of windows, the newest first."""

    windows: list[WindowData]
    next_before: UUID | None
    """Ask with ``before`` for the next page; null on the last one"""


class StatisticsBody(_Body):
    """The response with statistics."""

    status: Literal["success"]
    data: StatisticsData
