"""Makes the values that tests need: events, records, references and declarations; each has quick, valid defaults.

Every function takes a ``number`` or a name by which its values differ, and keyword changes for single fields. The
same arguments give the same value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from detectors.card.card import ModelCard
from infra.broker.event_records import event_record
from infra.broker.port import InRecord, OutRecord
from schemas.cloudevents import Headers
from schemas.event_base import Event, ModelRef
from schemas.events import DeadLetter, Detection, DetectionsMade, DetectOptions, FrameCaptured, ImageRef, Timings
from schemas.geometry import Box, CameraGeometry
from schemas.ids import detection_id, detections_event_id, frame_id
from schemas.topics import DETECTIONS, FRAMES_DEAD, FRAMES_LIVE, TopicSpec

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
"""When frame 0 was captured; frame ``number`` came so many seconds later."""


def image_ref(data: bytes, uri: str = "file:///frames/image.jpg", **changes: object) -> ImageRef:
    """Return the reference to an image with the bytes ``data`` at ``uri``."""
    fields: dict[str, object] = {
        "uri": uri,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "media_type": "image/jpeg",
        "width": 1,
        "height": 1,
    }
    return ImageRef.model_validate(fields | changes)


def model_ref(version: str = "1.0.0", name: str = "finder") -> ModelRef:
    """Return a model by name and version."""
    return ModelRef(name=name, version=version)


def model_card(**changes: object) -> ModelCard:
    """Return the card of a model with one class."""
    fields: dict[str, object] = {
        "name": "finder",
        "version": "1.0.0",
        "file": "finder.onnx",
        "sha256": "0" * 64,
        "input": {"width": 640, "height": 640},
        "classes": [{"name": "car"}],
        "licence": "Apache-2.0",
    }
    return ModelCard.model_validate(fields | changes)


def frame_captured(number: int = 0, *, device: str = "drone-1", **changes: object) -> FrameCaptured:
    """Return the event of frame ``number`` of ``device``, one frame a second."""
    at = START + timedelta(seconds=number)
    image = image_ref(f"{device}{number}".encode(), width=4000, height=3000)
    image = image.model_copy(update={"uri": f"file:///frames/{image.sha256}.jpg"})
    fields: dict[str, object] = {
        "frame_id": frame_id(device, at, image.sha256),
        "device_id": device,
        "captured_at": at,
        "received_at": at + timedelta(milliseconds=100),
        "image": image,
    }
    return FrameCaptured.model_validate(fields | changes)


def detections_made(
    number: int = 0,
    *,
    labels: Sequence[str] = ("car", "car"),
    device: str = "drone-1",
    version: str = "1.0",
    **changes: object,
) -> DetectionsMade:
    """Return the detections event of frame ``number`` of ``device``, with one detection for each of ``labels``.

    Every field has a value. The confidences are 1/2, 1/3, 1/4 …; ``version`` is that of the model.
    """
    frame = frame_captured(number, device=device)
    own = detections_event_id(frame.frame_id, None, "small", version)
    detections = [
        Detection(
            id=detection_id(own, index),
            label=label,
            class_id=3,
            confidence=1 / (index + 2),
            box=Box(x1=0.25, y1=0.5, x2=0.75, y2=1.0),
        )
        for index, label in enumerate(labels)
    ]
    made = DetectionsMade(
        id=own,
        frame_id=frame.frame_id,
        device_id=device,
        captured_at=frame.captured_at,
        received_at=frame.received_at,
        detected_at=frame.captured_at + timedelta(milliseconds=350),
        image=frame.image.model_copy(update={"size_bytes": 3_000_000_000}),
        camera=CameraGeometry(latitude=50.5, longitude=4.25, altitude_m=80),
        metadata={"flight": "7", "wind": [1, 2.5, None]},
        original_filename="DJI_0001.JPG",
        model=ModelRef(name="small", version=version),
        options=DetectOptions(confidence=0.25),
        detections=detections,
        timings=Timings(queued_ms=1, fetch_ms=2, decode_ms=3, inference_ms=4, merge_ms=5, total_ms=250),
    )
    return DetectionsMade.model_validate(made.model_dump() | changes)


def out_record(event: Event, topic: str | None = None) -> OutRecord:
    """Return the record that publishes ``event`` (frame, detections, dead letter) on ``topic``, or on its own topic."""
    if isinstance(event, DetectionsMade):
        return event_record(
            topic or DETECTIONS,
            event,
            id=event.id,
            source="/test",
            subject=str(event.frame_id),
            time=event.detected_at,
            key=event.device_id,
        )
    if isinstance(event, FrameCaptured):
        return event_record(
            topic or FRAMES_LIVE,
            event,
            id=event.frame_id,
            source="/test",
            subject=None,
            time=event.received_at,
            key=event.device_id,
        )
    if isinstance(event, DeadLetter):
        return event_record(
            topic or FRAMES_DEAD,
            event,
            id=event.id,
            source="/test",
            subject=event.device_id,
            time=event.failed_at,
            key=event.device_id or "unknown",
        )
    raise TypeError(f"out_record makes records of frames, detections and dead letters, not of {type(event).__name__}")


def in_record(
    offset: int = 0,
    *,
    topic: str = FRAMES_LIVE,
    partition: int = 0,
    key: str | None = "drone-1",
    value: bytes | None = b"{}",
    headers: Headers = (),
    epoch: int = 1,
) -> InRecord:
    """Return a record as a consumer reads it at ``offset``."""
    return InRecord(topic, partition, offset, 1_000, key, value, headers, epoch)


def topic_spec(name: str = "in", *, partitions: int = 4, **changes: Any) -> TopicSpec:
    """Return the declaration of a topic."""
    fields: dict[str, Any] = {
        "name": name,
        "group": "test",
        "partitions": partitions,
        "key": "device_id",
        "events": ("frame.captured",),
        "about": "a test",
        "replication": 1,
        "min_insync_replicas": 1,
        "retention_s": 3600,
        "max_message_bytes": 1_048_576,
        "cleanup": "delete",
    }
    return TopicSpec(**(fields | changes))
