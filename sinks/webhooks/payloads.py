"""Makes the bodies of deliveries: type, time and data, as Standard Webhooks has them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid5

import orjson

from schemas.events import Detection, DetectionsMade
from schemas.job_events import JobFinished
from schemas.timestamps import format_utc

EventName = Literal["job.finished", "detections.found", "test"]
_DELIVERY = UUID("6a6ac9f5-6df5-5e8a-8a68-0c3bb7a3f2f4")
_MOST_DETECTIONS = 100


def delivery_id(webhook: UUID, event: UUID) -> UUID:
    """Return the id of the one delivery of ``event`` to ``webhook``: the same for each attempt, and after a crash."""
    return uuid5(_DELIVERY, f"{webhook}\x1f{event}")


def job_payload(event: JobFinished) -> bytes:
    """Return the body that reports the end of a job."""
    path = f"/api/v1/jobs/{event.job_id}"
    data = event.model_dump(mode="json", exclude={"id", "job_uuid", "client_id"}, exclude_none=True)
    return _payload(
        "job.finished", event.finished_at, {**data, "status_url": f"{path}/status", "results_url": f"{path}/results"}
    )


def detections_payload(event: DetectionsMade, found: Sequence[Detection]) -> bytes:
    """Return the body that reports detections of a frame, the best first, a hundred at most."""
    data = {
        "frame_id": str(event.frame_id),
        "device_id": event.device_id,
        "captured_at": format_utc(event.captured_at),
        "flight_id": event.flight_id,
        "image": {"sha256": event.image.sha256, "width": event.image.width, "height": event.image.height},
        "model": {"name": event.model.name, "version": event.model.version},
        "camera": None if event.camera is None else event.camera.model_dump(mode="json", exclude_none=True),
        "detection_count": len(found),
        "detections": [each.model_dump(mode="json", exclude_none=True) for each in found[:_MOST_DETECTIONS]],
    }
    return _payload("detections.found", event.detected_at, data)


def test_payload(webhook_id: str, now: datetime) -> bytes:
    """Return the body of a test."""
    return _payload("test", now, {"webhook_id": webhook_id})


def _payload(name: EventName, moment: datetime, data: object) -> bytes:
    return orjson.dumps({"type": name, "timestamp": format_utc(moment), "data": data})
