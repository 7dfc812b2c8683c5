"""A detection event for tests, with everything in it that a sink may look at."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from schemas.events import Detection, DetectionsMade, DetectOptions, ImageRef, ModelRef, Timings
from schemas.geometry import Box, CameraGeometry
from schemas.ids import detection_id, detections_event_id, frame_id

START = datetime(2026, 5, 1, 12, tzinfo=UTC)


def answer(
    number: int, found: int = 2, *, device: str = "drone-1", version: str = "1.0", **changes: object
) -> DetectionsMade:
    """The answer to frame ``number`` of ``device``, one frame a second, with ``found`` detections."""
    at = START + timedelta(seconds=number)
    sha256 = hashlib.sha256(f"{device}{number}".encode()).hexdigest()
    frame = frame_id(device, at, sha256)
    own = detections_event_id(frame, None, "small", version)
    detections = [
        Detection(
            id=detection_id(own, index),
            label="car",
            class_id=3,
            confidence=1 / (index + 2),
            box=Box(x1=0.25, y1=0.5, x2=0.75, y2=1.0),
        )
        for index in range(found)
    ]
    made = DetectionsMade(
        id=own,
        frame_id=frame,
        device_id=device,
        captured_at=at,
        received_at=at + timedelta(milliseconds=100),
        detected_at=at + timedelta(milliseconds=350),
        image=ImageRef(
            uri=f"file:///frames/{sha256}.jpg",
            sha256=sha256,
            size_bytes=3_000_000_000,
            media_type="image/jpeg",
            width=4000,
            height=3000,
        ),
        camera=CameraGeometry(latitude=50.5, longitude=4.25, altitude_m=80),
        metadata={"flight": "7", "wind": [1, 2.5, None]},
        original_filename="DJI_0001.JPG",
        model=ModelRef(name="small", version=version),
        options=DetectOptions(confidence=0.25),
        detections=detections,
        timings=Timings(queued_ms=1, fetch_ms=2, decode_ms=3, inference_ms=4, merge_ms=5, total_ms=250),
    )
    return DetectionsMade.model_validate(made.model_dump() | changes)
