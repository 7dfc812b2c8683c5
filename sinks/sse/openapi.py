"""Describes the live stream for the OpenAPI document of a server that has its route."""

from __future__ import annotations

from pydantic import JsonValue

from sinks.settings import SseSettings
from sinks.sse.access.access import TOKENS_PATH
from sinks.sse.access.token_route import TokenRequest
from sinks.sse.http import STREAM_PATH
from sinks.sse.pictures.addresses import IMAGES_PATH

Json = dict[str, JsonValue]

_PARAMETERS: dict[str, tuple[str, Json]] = {
    "device": ("Events of these devices only; may be repeated", {"type": "array", "items": {"type": "string"}}),
    "flight": ("Events of these flights only; may be repeated", {"type": "array", "items": {"type": "string"}}),
    "job": (
        "Events of these jobs only (`job_…`); may be repeated. Without it and `media` there are none of jobs",
        {"type": "array", "items": {"type": "string"}},
    ),
    "media": (
        "Events of these media only, also of runs that begin later; may be repeated",
        {"type": "array", "items": {"type": "string"}},
    ),
    "label": ("Detections with these labels only; may be repeated", {"type": "array", "items": {"type": "string"}}),
    "confidence": ("Detections with at least this confidence only", {"type": "number", "minimum": 0, "maximum": 1}),
    "area": (
        "Frames that show a part of this area only: `west,south,east,north` in degrees, or `POLYGON((lon lat, …))`",
        {"type": "string"},
    ),
    "token": ("A token of the stream, for pages, which cannot send headers", {"type": "string"}),
    "last_event_id": ("The id of the last event received; the header Last-Event-ID wins", {"type": "string"}),
}


def _refusal(text: str) -> Json:
    schema: Json = {"$ref": "#/components/schemas/ErrorBody"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


_REFUSALS = {
    "400": "A parameter is wrong",
    "401": "A key or token is required, or is not valid any more",
    "403": "The key or token may not see a device that is asked for",
    "404": "There is no such job or medium, or it is another client's",
    "503": "The server, or the address, has as many clients as it may have: connect again after Retry-After seconds",
}


_TOKEN_OPERATION: Json = {
    "tags": ["detections"],
    "summary": "Make a token for the address of the stream",
    "description": "Needs an API key, as `X-API-Key` or `Authorization: Bearer`. The token is valid for "
    "`sse.token_lifetime_s`, and a stream that it has opened goes on after that.",
    "operationId": "create_stream_token",
    "security": [{"ApiKey": []}, {"Bearer": []}],
    "requestBody": {"content": {"application/json": {"schema": TokenRequest.model_json_schema()}}},
    "responses": {
        "201": {
            "description": "The token, and the address of the stream with it",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["token", "expires_at", "devices", "stream_url"],
                        "properties": {
                            "token": {"type": "string"},
                            "expires_at": {"type": "string", "format": "date-time"},
                            "devices": {"type": ["array", "null"], "items": {"type": "string"}},
                            "stream_url": {"type": "string"},
                        },
                    }
                }
            },
        },
        "400": _refusal("The body is wrong"),
        "401": _refusal("An API key is required, or is not valid any more"),
        "403": _refusal("The key may not see a device that is named"),
        "503": _refusal("The keys could not be read yet: try again after Retry-After seconds"),
    },
}
_IN_QUERY: list[JsonValue] = [
    {"name": name, "in": "query", "required": True, "schema": {"type": "string"}} for name in ("until", "signature")
]
_PICTURE_OPERATION: Json = {
    "tags": ["detections"],
    "summary": "The picture of an event of the stream",
    "description": "The address is `image.uri` of the event, as it is; it needs no key.",
    "operationId": "get_stream_image",
    "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}, *_IN_QUERY],
    "responses": {
        "200": {
            "description": "The picture",
            "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
        },
        "403": _refusal("The address was changed, or its time is over"),
        "404": _refusal("The frame store does not have the picture any more"),
        "503": _refusal("The frame store does not answer, or too many pictures are being sent: try again"),
    },
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
            "description": "Events `detections` (the JSON of a detections.made event), `gap`, `reset` and `overflow`",
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
    if settings.tokens or settings.access == "keys":
        keys: list[JsonValue] = [{"ApiKey": []}] if settings.access == "keys" else []
        operation["security"] = [*keys, {"DeviceToken": []}, {"Bearer": []}]
    return {
        STREAM_PATH: {"get": operation},
        TOKENS_PATH: {"post": _TOKEN_OPERATION},
        f"{IMAGES_PATH}/{{name}}": {"get": _PICTURE_OPERATION},
    }
