"""Decides which detections a web-hook is called for."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from infra.storable import StorableText
from schemas.event_base import DeviceId
from schemas.events import Detection, DetectionsMade

_Labels = Annotated[list[Annotated[StorableText, Field(min_length=1, max_length=100)]], Field(max_length=100)]


class Conditions(BaseModel):
    """Holds what a frame and its detections must have; each condition that is given must hold."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)

    devices: Annotated[list[DeviceId], Field(max_length=1_000)] = []
    """The devices whose frames count; none: all"""
    labels: _Labels = []
    """The classes that count; none: all"""
    min_confidence: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """The least score of a detection that counts"""
    min_count: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How many such detections a frame must have"""
    max_age_s: Annotated[float, Field(gt=0, le=31_536_000)] | None = None
    """How old a frame may be, from its capture; so that replays of an archive call nobody"""

    def matching(self, event: DetectionsMade, now: datetime) -> list[Detection]:
        """Return the detections for which to call; none when the frame does not fit."""
        if self.devices and event.device_id not in self.devices:
            return []
        if self.max_age_s is not None and (now - event.captured_at).total_seconds() > self.max_age_s:
            return []
        found = [
            each
            for each in event.detections
            if each.confidence >= self.min_confidence and (not self.labels or each.label in self.labels)
        ]
        return found if len(found) >= self.min_count else []
