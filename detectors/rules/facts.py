"""Writes what is known about a frame and its detections as the term that the program of a rules file reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from detectors.geometry.arrays import Detections, DoubleArray
from detectors.geometry.normalised import round_scores
from detectors.rules.language.terms import write_atom, write_number
from schemas.event_base import ModelRef
from schemas.events import VideoPosition
from schemas.geometry import CameraGeometry

_BLOCK = 200
_MOST_METADATA = 64
_LONGEST_TEXT = 1_000
_LARGEST_NUMBER = 1e15


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """Holds what rules may know about a frame besides its detections; None: not known."""

    width: int
    height: int
    """In pixels, as the width."""
    model: ModelRef
    gsd_m: float | None = None
    """Metres on the ground per pixel."""
    captured_at: datetime | None = None
    camera: CameraGeometry | None = None
    device: str | None = None
    flight: str | None = None
    video: VideoPosition | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    """What the device sent; texts, numbers, true and false are taken."""


def write_frame(frame: FrameFacts, detections: Detections, labels: Sequence[str], *, traced: bool = False) -> str:
    """Return the term; ``labels``: those of the model, by class number. ``traced``: rules say that they are tried."""
    sides = detections.boxes[:, 2:] - detections.boxes[:, :2]
    widest = float(sides[:, 0].max()) if len(sides) else 0.0
    facts = [f"detections({len(detections)})", f"widest({write_number(widest)})", *_facts(frame)]
    rows = list(_rows(detections, labels))
    blocks = [f"b({','.join(rows[first : first + _BLOCK])})" for first in range(0, len(rows), _BLOCK)]
    shown = f"b({','.join(blocks)})" if blocks else "none"
    return f"frame({'yes' if traced else 'no'},[{','.join(facts)}],{shown}).\n"


def _facts(frame: FrameFacts) -> Iterator[str]:
    yield f"frame_px({frame.width},{frame.height})"
    yield f"model({write_atom(frame.model.name)},{write_atom(frame.model.version)})"
    if frame.gsd_m is not None:
        yield f"gsd_m({write_number(float(frame.gsd_m))})"
    for name, text in (("device", frame.device), ("flight", frame.flight)):
        if text is not None:
            yield f"{name}({write_atom(text)})"
    if frame.captured_at is not None:
        at = frame.captured_at.astimezone(UTC)
        yield f"date({at.year},{at.month},{at.day})"
        yield f"time({at.hour},{at.minute},{at.second})"
        yield f"weekday({at.isoweekday()})"
    if frame.camera is not None:
        yield from _camera(frame.camera)
    if frame.video is not None:
        yield f"video({write_atom(frame.video.source)},{write_number(float(frame.video.presentation_time_s))})"
    for key, value in list(frame.metadata.items())[:_MOST_METADATA]:
        shown = _value(value)
        if shown is not None and len(key) <= _LONGEST_TEXT:
            yield f"metadata({write_atom(key)},{shown})"


def _camera(camera: CameraGeometry) -> Iterator[str]:
    if camera.latitude is not None and camera.longitude is not None:
        yield f"place({write_number(float(camera.latitude))},{write_number(float(camera.longitude))})"
    known = (("altitude_m", camera.altitude_m), ("heading", camera.heading_deg), ("pitch", camera.pitch_deg))
    for name, number in known:
        if number is not None:
            yield f"{name}({write_number(float(number))})"


def _value(value: object) -> str | None:
    """Return a value of the metadata as a term; None for what has parts, is too long, or is no finite number."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        # A NaN is on neither side.
        return write_number(value) if -_LARGEST_NUMBER <= value <= _LARGEST_NUMBER else None
    return write_atom(value) if isinstance(value, str) and len(value) <= _LONGEST_TEXT else None


def _rows(detections: Detections, labels: Sequence[str]) -> Iterator[str]:
    """Yield each detection as a term, in the order of the centres' x; ties in the order of the detections."""
    boxes = detections.boxes.astype(np.float64)
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    order = np.argsort(centres[:, 0], kind="stable")
    numbers = np.round(np.concatenate([centres, sides], axis=1), 2)[order].tolist()
    scores, classes = round_scores(detections.scores)[order].tolist(), detections.classes[order].tolist()
    lengths = _lengths(detections)
    shown_labels = [write_atom(label) for label in labels]
    for index, (number, score, class_id, row) in enumerate(
        zip(order.tolist(), scores, classes, numbers, strict=True), start=1
    ):
        rotated = "" if lengths is None else "".join(f",{side:.2f}" for side in lengths[number].tolist())
        x, y, width, height = row
        yield (
            f"d({index},{number},{shown_labels[class_id]},{score:.4f},{x:.2f},{y:.2f},{width:.2f},{height:.2f}{rotated})"
        )


def _lengths(detections: Detections) -> DoubleArray | None:
    """Return both sides of each rotated box, float64 (N, 2) in pixels; None for upright boxes."""
    if detections.quads is None:
        return None
    quads = detections.quads.astype(np.float64)
    sides: DoubleArray = np.linalg.norm(quads[:, 1:3] - quads[:, 0:2], axis=2)
    return sides
