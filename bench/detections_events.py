"""Makes `detections.made` events for the sink benchmarks, like those of a detector."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

from schemas import ids
from schemas.event_base import ModelRef
from schemas.events import Detection, DetectionsMade, DetectOptions, ImageRef, Timings
from schemas.geometry import Box

_DEVICES = 8
_START = datetime(2026, 5, 1, tzinfo=UTC)
_LABELS = ("vehicle", "boat", "person", "bird")


def detections_event(number: int, detections: int, detected_at: datetime | None = None) -> DetectionsMade:
    """Return event ``number``, of a separate frame; the same number gives the same event."""
    device = f"drone-{number % _DEVICES}"
    captured_at = _START + timedelta(milliseconds=number)
    digest = sha256(number.to_bytes(8, "big")).hexdigest()
    frame = ids.frame_id(device, captured_at, digest)
    made = ids.detections_event_id(frame, None, "bench", "1.0.0")
    rng = random.Random(number)
    return DetectionsMade(
        id=made,
        frame_id=frame,
        device_id=device,
        captured_at=captured_at,
        received_at=captured_at,
        detected_at=detected_at or captured_at,
        image=ImageRef(
            uri=f"file:///frames/{digest}.jpg",
            sha256=digest,
            size_bytes=200_000,
            media_type="image/jpeg",
            width=1280,
            height=960,
        ),
        model=ModelRef(name="bench", version="1.0.0"),
        options=DetectOptions(confidence=0.5),
        detections=[_detection(made, index, rng) for index in range(detections)],
        timings=Timings(queued_ms=1, fetch_ms=2, decode_ms=4, inference_ms=80, merge_ms=1, total_ms=90),
    )


def _detection(made: UUID, index: int, rng: random.Random) -> Detection:
    label = rng.randrange(len(_LABELS))
    left, top = rng.uniform(0, 0.9), rng.uniform(0, 0.9)
    box = Box(x1=left, y1=top, x2=left + rng.uniform(0.01, 0.1), y2=top + rng.uniform(0.01, 0.1))
    return Detection(
        id=ids.detection_id(made, index), label=_LABELS[label], class_id=label, confidence=rng.uniform(0.5, 1), box=box
    )
