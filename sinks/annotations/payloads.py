"""Makes the bodies of posts: what was found in one frame, with the field names of the service."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from uuid import UUID, uuid5

import orjson

from schemas.events import Detection, DetectionsMade

_POST = UUID("5b0d0a55-60b2-5f52-9a0e-6c6a3f7f1d6c")
_SOURCE_AI = 0
_DIGITS = 6
_SCORE_DIGITS = 4


def post_id(run: UUID, frame: UUID) -> UUID:
    """Return the id of the one post about ``frame`` of a medium: the same for each attempt, and after a crash."""
    return uuid5(_POST, f"{run}\x1f{frame}")


def box_fields(
    x1: float, y1: float, x2: float, y2: float, *, class_id: int, label: str, confidence: float
) -> dict[str, float | int | str]:
    """Return a detection as clients and the Annotations service get it, from the corners of its box in 0..1."""
    return {
        "centerX": round((x1 + x2) / 2, _DIGITS),
        "centerY": round((y1 + y2) / 2, _DIGITS),
        "width": round(x2 - x1, _DIGITS),
        "height": round(y2 - y1, _DIGITS),
        "classNum": class_id,
        "label": label,
        "confidence": round(confidence, _SCORE_DIGITS),
    }


def post_body(media_id: str, event: DetectionsMade, image: bytes | None) -> bytes:
    """Return the body of the post about ``event``, with its picture or without. A picture is at the time 0."""
    body: dict[str, object] = {
        "mediaId": media_id,
        "source": _SOURCE_AI,
        "videoTime": 0.0 if event.video is None else event.video.presentation_time_s,
        "detections": [_fields(each) for each in event.detections],
    }
    if image is not None:
        body["image"] = base64.b64encode(image).decode()
    return orjson.dumps(body)


def _fields(found: Detection) -> Mapping[str, object]:
    box = found.box
    return box_fields(
        box.x1, box.y1, box.x2, box.y2, class_id=found.class_id, label=found.label, confidence=found.confidence
    )
