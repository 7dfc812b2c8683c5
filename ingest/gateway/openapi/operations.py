"""Describes the endpoints that take images: their parameters, bodies and responses."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from infra.http_api.openapi import body_response
from ingest.acceptance.fields import CAMERA_FIELDS, TOPIC_OF_PRIORITY
from ingest.gateway.openapi.errors import (
    BATCH_STATUSES,
    DETECT_STATUSES,
    FRAME_STATUSES,
    KNOWN_STATUSES,
    Json,
    error_responses,
)
from ingest.settings import GatewaySettings
from schemas.event_base import FLIGHT_ID_PATTERN
from schemas.geometry import CameraGeometry

_IMAGE_TYPES = ("image/jpeg", "image/png", "image/tiff", "image/webp", "application/octet-stream")
_TIME: Json = {"type": "string", "format": "date-time"}
_EXAMPLE_TIME = "2026-01-31T12:00:00.123456Z"
_DIGEST: Json = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_EXAMPLE_DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_ABOUT: dict[str, tuple[str, Json, JsonValue]] = {
    "device_id": ("The sending device; default, and only one allowed: the token's", {"type": "string"}, "drone-1"),
    "captured_at": (
        "When the picture was taken, RFC 3339 with a zone. Default: the image's EXIF or XMP (read as UTC where those "
        "have neither a zone nor a GPS time). Required when neither is there: it is part of the frame's identity",
        _TIME,
        _EXAMPLE_TIME,
    ),
    "original_filename": ("A name to show; nothing is stored under it", {"type": "string"}, "DJI_0028.JPG"),
    "metadata": (
        "Any JSON object; it is kept with the frame",
        {"type": "string", "contentMediaType": "application/json"},
        '{"mission": "north"}',
    ),
    "flight": (
        "The flight that the frame belongs to, as the device calls it; `/api/v1/flights/{flight}` counts its frames",
        {"type": "string", "pattern": FLIGHT_ID_PATTERN},
        "2026-01-31-north",
    ),
    "priority": (
        "`live`, or `backfill` for frames that may wait: detected when no live frame waits. Default: `backfill` "
        "for batches, else `live`",
        {"type": "string", "enum": [*TOPIC_OF_PRIORITY]},
        "backfill",
    ),
    "sha256": (
        "SHA-256 of the image. With an image: it is refused when it has another one. Without: the image is stored "
        "already (`/api/v1/frames/known`) and is not sent again; then `proof` is needed",
        _DIGEST,
        _EXAMPLE_DIGEST,
    ),
    "proof": (
        'Shows that the sender has the image that it does not send: the SHA-256 of "standgale-proof:" followed by the '
        "image",
        _DIGEST,
        _EXAMPLE_DIGEST,
    ),
    "repeated": (
        "`true` when the same frame may have been accepted before and its response was lost: `/api/v1/frames` and the "
        "stream then do not announce it again where it is among the last frames of its partition. Others ignore it",
        {"type": "string", "enum": ["true", "false"]},
        "true",
    ),
}
_TIMESTAMP: Json = {"description": "Another name of captured_at; give one of them", "schema": _TIME}
_BATCH_TIME: Json = {
    "description": "When the pictures were taken: once for all, or once per image in their order. Only for images "
    "whose EXIF or XMP has no capture time; an image with neither fails",
    "schema": _TIME,
}
_BINARY: Json = {"type": "string", "format": "binary"}


def send_frame(settings: GatewaySettings) -> Json:
    """Return the operation of /api/v1/frames."""
    return _operation(
        "send_frame",
        "Send one frame",
        f"{_how_to_send(settings)} Camera geometry is read from EXIF and XMP where the request has none; `warnings` of "
        "the response name what was assumed or could not be read there.",
        fields_of_frames(),
        _single_content(fields_of_frames()),
        {"202": body_response("Stored and announced", "AcceptedFrame"), **error_responses(FRAME_STATUSES)},
    )


def detect(settings: GatewaySettings) -> Json:
    """Return the operation of /api/v1/detect."""
    fields = {**fields_of_frames(), "timestamp": _TIMESTAMP}
    return _operation(
        "detect",
        "Send one frame and wait for its detections",
        f"{_how_to_send(settings)} Accepts the frame as `/api/v1/frames` does, then waits for its detections, at most "
        f"{settings.answer_timeout_s:g} s. A frame that was sent before gets the detections that it has.",
        fields,
        _single_content(fields),
        {
            "200": body_response("What was found, which may be nothing", "DetectionResult"),
            "202": body_response(
                "Accepted, but no detections in time: `message` says how to get them", "UnansweredFrame"
            ),
            **error_responses(DETECT_STATUSES),
        },
    )


def known_frames(settings: GatewaySettings) -> Json:
    """Return the operation of /api/v1/frames/known."""
    most = settings.max_known_digests
    listed: Json = {"type": "array", "items": _DIGEST, "maxItems": most}
    return {
        "tags": ["frames"],
        "summary": "Which images are stored already",
        "description": f"Takes a list of at most {most} digests and returns those whose images are stored. A frame "
        "with such an image is sent with `sha256` and `proof`, without a body. Retention may remove an image in "
        "between: then the response is 404 IMAGE_NOT_STORED, and the image is sent as the body.",
        "operationId": "known_frames",
        "security": [{"DeviceToken": []}, {"Bearer": []}],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": listed, "example": [_EXAMPLE_DIGEST]}},
        },
        "responses": {"200": body_response("Those that are stored", "KnownDigests"), **error_responses(KNOWN_STATUSES)},
    }


def detect_batch(settings: GatewaySettings) -> Json:
    """Return the operation of /api/v1/detect/batch."""
    fields = {**fields_of_frames(), "captured_at": {**_BATCH_TIME, "example": _EXAMPLE_TIME}, "timestamp": _BATCH_TIME}
    for single in ("original_filename", "sha256", "proof"):
        del fields[single]
    form: Json = {
        "images": {
            "type": "array",
            "items": _BINARY,
            "minItems": 1,
            "maxItems": settings.max_batch_images,
        },
        **_form(fields),
    }
    schema: Json = {"type": "object", "required": ["images"], "properties": form}
    return _operation(
        "detect_batch",
        "Send several frames and wait for the detections of all",
        f"At most {settings.max_batch_images} images, and {settings.batch_timeout_s:g} s for all. A failed image never "
        "stops the others: each is in `results` or in `errors`. All images are accepted together, when the whole form "
        "was received, and detected behind live frames; fields are for all images.",
        fields,
        {"multipart/form-data": {"schema": schema}},
        {
            "200": body_response("A result or an error for each image", "BatchResponse"),
            **error_responses(BATCH_STATUSES, batch=True),
        },
    )


def fields_of_frames() -> dict[str, Json]:
    """Return the parameters of a frame, each with a description and a schema."""
    fields: dict[str, Json] = {
        name: {"description": f"{about}. Like `{example}`", "schema": schema}
        for name, (about, schema, example) in _ABOUT.items()
    }
    # "Try it out" of the page sends examples: those of other fields would belong to another image or device.
    fields["captured_at"]["example"] = _EXAMPLE_TIME
    camera = CameraGeometry.model_json_schema()["properties"]
    for name in CAMERA_FIELDS:
        number = dict(camera[name]["anyOf"][0])
        fields[name] = {"description": camera[name].get("description", name.replace("_", " ")), "schema": number}
    return fields


def _operation(
    name: str, summary: str, description: str, fields: Mapping[str, Json], content: Json, responses: Json
) -> Json:
    parameters: list[JsonValue] = [{"name": field, "in": "query", **about} for field, about in fields.items()]
    return {
        "tags": ["frames"],
        "summary": summary,
        "description": description,
        "operationId": name,
        "security": [{"DeviceToken": []}, {"Bearer": []}],
        "parameters": parameters,
        "requestBody": {"required": True, "content": content},
        "responses": responses,
    }


def _how_to_send(settings: GatewaySettings) -> str:
    return (
        "The image itself as the body, with parameters in the query or in `X-Standgale-…` headers "
        "(`X-Standgale-Captured-At`), or a multipart form with a part `image` and fields. At most "
        f"{settings.max_image_bytes} bytes, sides of {settings.min_side_px} to {settings.max_side_px} px, "
        f"{settings.max_pixels} pixels."
    )


def _single_content(fields: Mapping[str, Json]) -> Json:
    content: Json = {kind: {"schema": _BINARY} for kind in _IMAGE_TYPES}
    properties: Json = {"image": _BINARY, **_form(fields)}
    content["multipart/form-data"] = {"schema": {"type": "object", "required": ["image"], "properties": properties}}
    return content


def _form(fields: Mapping[str, Json]) -> Json:
    return {name: {**_schema(about), "description": about["description"]} for name, about in fields.items()}


def _schema(about: Json) -> Json:
    schema = about["schema"]
    assert isinstance(schema, dict)
    return schema
