"""Converts rows of the database to detections as all formats have them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID


class DetectionRow(TypedDict):
    """Is one detection; the names are those of JSON, GeoJSON properties, CSV and Parquet columns."""

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
    frame_width: int
    frame_height: int
    model_name: str
    model_version: str
    flight_id: str | None
    filename: str | None
    lakefs_path: str | None
    latitude: float | None
    longitude: float | None


COLUMNS: tuple[str, ...] = tuple(DetectionRow.__annotations__)


def detection_of(row: Any) -> DetectionRow:
    """Return the detection of a row of the query; boxes are in pixels of the frame."""
    width, height = row["width"], row["height"]
    corners = row["corners"]
    return DetectionRow(
        id=row["id"],
        frame_id=row["frame_id"],
        device_id=row["device_id"],
        captured_at=row["captured_at"],
        detected_at=row["detected_at"],
        label=row["label"],
        class_id=row["class_id"],
        confidence=round(row["confidence"], 4),
        x_min=round(row["bbox_x1"] * width, 2),
        y_min=round(row["bbox_y1"] * height, 2),
        x_max=round(row["bbox_x2"] * width, 2),
        y_max=round(row["bbox_y2"] * height, 2),
        corners=None
        if corners is None
        else [round(side * (height if place % 2 else width), 2) for place, side in enumerate(corners)],
        frame_width=width,
        frame_height=height,
        model_name=row["model_name"],
        model_version=row["model_version"],
        flight_id=row["flight_id"],
        filename=row["original_filename"],
        lakefs_path=row["lakefs_path"],
        latitude=row["latitude"],
        longitude=row["longitude"],
    )
