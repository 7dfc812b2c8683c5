"""Defines the bodies of detections, for the OpenAPI document; a test compares them with real ones."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict


class _Body(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class ListedDetection(_Body):
    """One detection with its frame; boxes are in pixels of the frame."""

    id: UUID
    frame_id: UUID
    device_id: str
    captured_at: datetime
    detected_at: datetime
    label: str
    class_id: int | None
    confidence: float
    x_min: float
    y_min: float
    x_max: float
    y_max: float
    corners: list[float] | None
    """x1, y1 … x4, y4 of a rotated box, clockwise as seen"""
    frame_width: int
    frame_height: int
    model_name: str
    model_version: str
    flight_id: str | None
    filename: str | None
    lakefs_path: str | None
    """Where the frame is in the archive, once it is there"""
    latitude: float | None
    """Of the camera"""
    longitude: float | None
    """Of the camera"""


class DetectionsPage(_Body):
    """One page of detections."""

    detections: list[ListedDetection]
    next_after: str | None
    """For `after` of the next page; none where this is the last one"""


class DetectionsBody(_Body):
    """The response with one page of detections."""

    status: Literal["success"]
    data: DetectionsPage
