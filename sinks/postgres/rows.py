"""Converts events to table rows, in the column order of :mod:`sinks.postgres.statements`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from schemas.events import Detection, DetectionsMade, FrameCaptured
from schemas.geometry import CameraGeometry
from schemas.ids import device_uuid

Row = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """Holds what a batch says about one device; ``location`` is JSON text."""

    id: UUID
    device_id: str
    last_seen: datetime
    location: str | None


def device_rows(events: Sequence[DetectionsMade | FrameCaptured]) -> list[DeviceRow]:
    """Return one row per device, from its latest frame; sorted, so that two writers lock rows in the same order."""
    latest: dict[str, DetectionsMade | FrameCaptured] = {}
    for event in events:
        known = latest.get(event.device_id)
        if known is None or known.received_at <= event.received_at:
            latest[event.device_id] = event
    return [
        DeviceRow(device_uuid(device_id), device_id, event.received_at, _location(event.camera))
        for device_id, event in sorted(latest.items())
    ]


def image_rows(events: Sequence[DetectionsMade], devices: Mapping[str, UUID]) -> list[Row]:
    """Return one row per frame, also when a batch has several events of it; ``devices`` maps device ids to row ids."""
    first: dict[UUID, DetectionsMade] = {}
    found: set[UUID] = set()
    for event in events:
        first.setdefault(event.frame_id, event)
        if event.detections:
            found.add(event.frame_id)
    return [
        (
            frame_id,
            devices[event.device_id],
            event.job_id,
            event.image.uri,
            event.image.sha256,
            event.original_filename,
            event.captured_at,
            event.received_at,
            event.image.width,
            event.image.height,
            event.image.media_type.removeprefix("image/"),
            event.image.size_bytes,
            "completed",
            event.detected_at,
            frame_id in found,
            False,
            None if event.camera is None else event.camera.model_dump_json(exclude_none=True),
            # ASCII only: PostgreSQL then refuses characters that it cannot store, and names the column.
            json.dumps(event.metadata) if event.metadata else None,
            event.flight_id,
        )
        for frame_id, event in sorted(first.items())
    ]


def session_rows(events: Sequence[DetectionsMade]) -> list[Row]:
    """Return one row per event."""
    return [
        (
            event.id,
            event.frame_id,
            event.job_id,
            event.detected_at - timedelta(milliseconds=event.timings.total_ms),
            event.detected_at,
            round(event.timings.total_ms),
            event.model.name,
            event.model.version,
            event.options.prompt,
            _config(event),
            event.timings.model_dump_json(),
            len(event.detections),
            max((detection.confidence for detection in event.detections), default=None),
            "success",
            event.captured_at,
            sum(detection.confidence for detection in event.detections),
        )
        for event in events
    ]


def detection_rows(events: Sequence[DetectionsMade]) -> Iterator[Row]:
    """Yield one row per detection."""
    for event in events:
        model = (event.model.name, event.model.version, event.detected_at)
        for detection in event.detections:
            box = detection.box
            yield (
                detection.id,
                event.frame_id,
                event.id,
                box.x1,
                box.y1,
                box.x2,
                box.y2,
                _corners(detection),
                detection.confidence,
                detection.label,
                detection.class_id,
                *model,
                None if detection.rule is None else json.dumps({"rule": detection.rule.model_dump(exclude_none=True)}),
            )


def _config(event: DetectionsMade) -> str:
    """Return how a frame was processed, as JSON: its options, its classes where it is of a job, and what rules did.

    What rules dropped is left out.
    """
    options = event.options.model_dump(mode="json", exclude_none=True)
    if event.rules is not None:
        options["rules"] = event.rules.model_dump(mode="json", exclude_none=True, exclude={"dropped"})
    if event.classes is not None:
        options["classes"] = event.classes
    return json.dumps(options)


def _corners(detection: Detection) -> list[float] | None:
    """Return x1, y1 … x4, y4 of a rotated box, None of an upright one."""
    if detection.corners is None:
        return None
    return [side for corner in detection.corners for side in (corner.x, corner.y)]


def _location(camera: CameraGeometry | None) -> str | None:
    if camera is None or camera.latitude is None or camera.longitude is None:
        return None
    return json.dumps({"latitude": camera.latitude, "longitude": camera.longitude})
