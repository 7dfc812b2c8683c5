"""Describes the live stream for the OpenAPI document of a server that has its route."""

from __future__ import annotations

from pydantic import JsonValue

from sinks.settings import SseSettings
from sinks.sse.http import STREAM_PATH

Json = dict[str, JsonValue]

_PARAMETERS: dict[str, tuple[str, Json]] = {
    "device": ("Events of these devices only; may be repeated", {"type": "array", "items": {"type": "string"}}),
    "job": (
        "Events of these jobs only; may be repeated. Without it there are none of jobs",
        {"type": "array", "items": {"type": "string", "format": "uuid"}},
    ),
    "label": ("Detections with these labels only; may be repeated", {"type": "array", "items": {"type": "string"}}),
    "confidence": ("Detections with at least this confidence only", {"type": "number", "minimum": 0, "maximum": 1}),
    "area": ("Frames of cameras in this area only: west,south,east,north in degrees", {"type": "string"}),
    "last_event_id": ("The id of the last event received; the header Last-Event-ID wins", {"type": "string"}),
}
_REFUSALS = {
    "400": "A parameter is wrong",
    "401": "A token is required",
    "503": "The server, or the address, has as many clients as it may have: connect again after Retry-After seconds",
}


def sse_operations(settings: SseSettings) -> dict[str, Json]:
    """Return the operations by path and method."""
    parameters: list[JsonValue] = [
        {"name": name, "in": "query", "description": about, "schema": schema}
        for name, (about, schema) in _PARAMETERS.items()
    ]
    parameters.append(
        {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The id of the last event received; browsers send it when they connect again",
            "schema": {"type": "string"},
        }
    )
    responses: Json = {
        "200": {
            "description": "Events `detections` (each the JSON of a detections.made event), `gap` and `overflow`",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    }
    responses.update((status, _refusal(text)) for status, text in _REFUSALS.items())
    operation: Json = {
        "tags": ["detections"],
        "summary": "Follow detections as they are made",
        "description": "Server-sent events, until one side ends the connection. After a reconnect with the id of the "
        "last event nothing is missed, and nothing is sent twice.",
        "operationId": "stream_detections",
        "parameters": parameters,
        "responses": responses,
    }
    if settings.tokens:
        operation["security"] = [{"DeviceToken": []}, {"Bearer": []}]
    return {STREAM_PATH: {"get": operation}}


def _refusal(text: str) -> Json:
    schema: Json = {"$ref": "#/components/schemas/ErrorBody"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}
