"""Builds the `detections.made` event of a frame, with everything that a consumer needs to act alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol
from uuid import UUID

from detectors.card.card import ModelCard
from detectors.geometry.normalised import normalise_boxes, normalise_points, round_scores
from detectors.worker.frames.frame_rules import FrameRulings
from detectors.worker.frames.rules_report import class_names, kept_detections, rules_report
from detectors.worker.partitions.window import DetectionsKey
from detectors.worker.pipeline.pipeline import FrameResult
from infra.broker.event_records import event_record
from infra.broker.port import OutRecord
from infra.texts import shortened
from schemas import topics
from schemas.cloudevents import JOB_HEADER
from schemas.event_base import ModelRef
from schemas.events import LONGEST_PROMPT, Detection, DetectionsMade, FrameCaptured, Timings
from schemas.geometry import Box, Point
from schemas.ids import detection_id, detections_event_id

SOURCE = "/standgale/detector"

Corners = tuple[Point, Point, Point, Point]


class NamedVersion(Protocol):
    """Names a model version: a card, or a reference to one."""

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    @property
    def version(self) -> str:
        """Its version."""
        ...


def detections_id(frame: FrameCaptured, model: NamedVersion) -> UUID:
    """Return the id of the event that ``model`` produces for ``frame``."""
    return detections_event_id(frame.frame_id, frame.job_id, model.name, model.version)


def detections_key(frame: FrameCaptured, model: NamedVersion, *, live: bool) -> DetectionsKey:
    """Return the key of that event in the duplicate window; ``live``: the frame is in the live topic."""
    frame_id = str(frame.frame_id) if frame.job_id is None else None
    return DetectionsKey(str(detections_id(frame, model)), frame_id, live)


def make_detections(
    frame: FrameCaptured,
    card: ModelCard,
    result: FrameResult,
    rulings: FrameRulings | None = None,
    *,
    detected_at: datetime,
    fetch_ms: float,
    total_ms: float,
) -> DetectionsMade:
    """Return the event for ``frame``; boxes are normalised to the decoded frame, best detection first.

    What rules dropped is none of its detections; the others keep the ids that they would have without rules.
    """
    event_id = detections_id(frame, card)
    found = _detections(event_id, card, result)
    return DetectionsMade(
        id=event_id,
        frame_id=frame.frame_id,
        device_id=frame.device_id,
        captured_at=frame.captured_at,
        received_at=frame.received_at,
        detected_at=detected_at,
        image=frame.image,
        camera=frame.camera,
        metadata=frame.metadata,
        original_filename=frame.original_filename,
        job_id=frame.job_id,
        video=frame.video,
        flight_id=frame.flight_id,
        batch=frame.batch,
        model=ModelRef(name=card.name, version=card.version),
        options=result.options.as_options(_prompt(frame, card)),
        detections=found if rulings is None else kept_detections(found, rulings, card),
        timings=Timings(
            queued_ms=max(0.0, (detected_at - frame.received_at).total_seconds() * 1_000 - total_ms),
            fetch_ms=fetch_ms,
            decode_ms=result.decode_ms,
            inference_ms=result.inference_ms,
            merge_ms=result.merge_ms,
            total_ms=total_ms,
        ),
        gsd_m=result.view.gsd_m,
        too_large=None if result.view.gsd_m is None else result.detections.too_large,
        rules=None if rulings is None else rules_report(found, rulings),
        classes=None if frame.job_id is None else class_names(card, rulings),
    )


def _prompt(frame: FrameCaptured, card: ModelCard) -> str | None:
    """Return the prompt that a model which takes text had: that of the frame, else the classes of its card."""
    if frame.options.prompt is not None or card.text is None:
        return frame.options.prompt
    return shortened(" . ".join(one.name for one in card.classes), LONGEST_PROMPT)


def detections_record(event: DetectionsMade) -> OutRecord:
    """Return ``event`` as a record of the detections topic."""
    record = event_record(
        topics.DETECTIONS,
        event,
        id=event.id,
        source=SOURCE,
        subject=str(event.frame_id),
        time=event.detected_at,
        key=event.device_id,
    )
    if event.job_id is None:
        return record
    return replace(record, headers=(*record.headers, (JOB_HEADER, str(event.job_id).encode())))


def _detections(event_id: UUID, card: ModelCard, result: FrameResult) -> list[Detection]:
    found = result.detections
    if not len(found.scores):
        return []
    boxes = normalise_boxes(found.boxes, result.view.width, result.view.height)
    scores = round_scores(found.scores)
    return [
        Detection(
            id=detection_id(event_id, index),
            label=card.classes[class_id].name,
            class_id=class_id,
            confidence=score,
            box=Box(x1=box[0], y1=box[1], x2=box[2], y2=box[3]),
            corners=corners,
        )
        for index, (box, score, class_id, corners) in enumerate(
            zip(boxes.tolist(), scores.tolist(), found.classes.tolist(), _corners(result), strict=True)
        )
    ]


def _corners(result: FrameResult) -> Sequence[Corners | None]:
    """Return the corners of each rotated box, normalised to the decoded frame; None for each upright box."""
    quads = result.detections.quads
    if quads is None:
        return [None] * len(result.detections)
    shares = normalise_points(quads, result.view.width, result.view.height)
    return [
        (Point(x=a[0], y=a[1]), Point(x=b[0], y=b[1]), Point(x=c[0], y=c[1]), Point(x=d[0], y=d[1]))
        for a, b, c, d in shares.tolist()
    ]
