"""Makes the bodies of what became of a frame: its detections, its dead letter, or that it has neither yet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from infra.http_api.errors.texts import ErrorText, retry_after
from ingest.gateway.frames import accepted_body, image_body, links_of
from schemas.archive_paths import archive_path
from schemas.events import DeadLetter, Detection, DetectionsMade, FrameCaptured
from schemas.timestamps import format_utc

_BUSY = "DEADLINE_EXCEEDED"
_STATUS: Mapping[str, int] = {
    "IMAGE_CORRUPT": 422,
    "IMAGE_TOO_COSTLY": 422,
    "TOO_MANY_TILES": 422,
    "RECORD_TOO_LARGE": 422,
    _BUSY: 503,
}
"""The reasons whose texts are about the frame alone; others are the server's, and may name what is the operator's."""
_ADDRESS = re.compile(r"\b(?:file|s3)://[^\s,;]+")


def dead_letter_text(letter: DeadLetter) -> ErrorText:
    """Return the error of a frame that was accepted and cannot be processed; the reason is the code."""
    status = _STATUS.get(letter.reason)
    later = "Send it again after Retry-After seconds" if letter.reason == _BUSY else "An operator can re-drive it"
    return ErrorText(
        status or 500,
        letter.reason,
        public_failure_text(letter.reason, letter.message),
        f"The frame is stored as {letter.frame_id}, and is kept as dead letter {letter.id}. {later}.",
        headers=retry_after() if status == 503 else None,
    )


def public_failure_text(reason: str, message: str) -> str:
    """Return why a frame failed, by its dead letter, without what only the operator may see."""
    if reason not in _STATUS:
        return "no detector could process the frame; its dead letter has the reason, for the operator"
    return f"no detector could process the frame: {_ADDRESS.sub('the stored image', message)}"


def detections_body(event: DetectionsMade, warnings: Sequence[str], stream_url: str | None) -> dict[str, JsonValue]:
    """Return the body for a frame with its detections."""
    return {
        "image_id": str(event.frame_id),
        "lakefs_path": path_of(event),
        "detections": [_detection(event, found) for found in event.detections],
        "has_detections": bool(event.detections),
        "inference_time_ms": round(event.timings.inference_ms, 3),
        "model_name": event.model.name,
        "model_version": event.model.version,
        "device_id": event.device_id,
        "captured_at": format_utc(event.captured_at),
        "received_at": format_utc(event.received_at),
        "image": image_body(event.image),
        "warnings": list(warnings),
        "links": links_of(event.device_id, stream_url),
    }


def unanswered_body(
    event: FrameCaptured, warnings: Sequence[str], stream_url: str | None, waited_s: float, problem: str | None
) -> dict[str, JsonValue]:
    """Return the body for a frame that was accepted and has no answer yet; ``problem``: why it may not be seen."""
    why = f" (the gateway cannot read the detections now: {problem})" if problem else ""
    return {
        **accepted_body(event, warnings, stream_url),
        "image_id": str(event.frame_id),
        "lakefs_path": path_of(event),
        "message": f"accepted, but there are no detections after {waited_s:g} s{why}. {where_to_look(stream_url)}",
    }


def where_to_look(stream_url: str | None) -> str:
    """Return how a client gets the detections of a frame that was accepted."""
    stream = " follow the live stream (links.detections), or" if stream_url is not None else ""
    return (
        f"Nothing is lost:{stream} send the same request again with the same captured_at; the frame counts once, and "
        "its detections are returned as soon as there are any"
    )


def path_of(event: FrameCaptured | DetectionsMade) -> str:
    """Return the path of the frame in the archive."""
    return archive_path(event.device_id, event.captured_at, event.image.sha256, event.image.media_type)


def _detection(event: DetectionsMade, found: Detection) -> JsonValue:
    box = found.box
    body: dict[str, JsonValue] = {
        "id": str(found.id),
        "image_id": str(event.frame_id),
        "bbox": [box.x1, box.y1, box.x2, box.y2],
        "confidence": found.confidence,
        "label": found.label,
        "class_id": found.class_id,
        "created_at": format_utc(event.detected_at),
    }
    if found.corners is not None:
        body["corners"] = [[corner.x, corner.y] for corner in found.corners]
    return body
