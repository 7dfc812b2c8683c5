"""Describes the frames endpoint in the OpenAPI document, because FastAPI does not know it."""

from __future__ import annotations

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ingest.acceptance.fields import CAMERA_FIELDS
from ingest.gateway.errors import UNAVAILABLE_CODES
from ingest.settings import GatewaySettings
from schemas.geometry import CameraGeometry

DESCRIPTION = """\
Takes frames from drones and cameras. After a response 202 the frame is durable in the frame store and acknowledged
by the broker; sending it again is harmless, because the same device, capture time and content are the same frame.

Every error has one body; `error_code` is stable. 4xx: change the request. 503: send the same again after `Retry-After`
seconds. `X-Request-ID` is taken from the request or made, and is in every response and log line.
"""
_IMAGE_TYPES = ("image/jpeg", "image/png", "image/tiff", "image/webp", "application/octet-stream")

Json = dict[str, JsonValue]


class ErrorBody(BaseModel):
    """The body of every error response."""

    status: str = Field(examples=["error"])
    message: str = Field(description="for people")
    error_code: str = Field(description="for programs; stable")
    details: str | None = Field(description="what to do about it")
    timestamp: str
    request_id: str
    field: str | None = Field(default=None, description="the wrong parameter")
    documentation_url: str | None = None


class AcceptedImage(BaseModel):
    """The image as the gateway recognised it by content."""

    sha256: str
    size_bytes: int
    media_type: str
    width: int = Field(description="stored pixels; EXIF orientation is not applied")
    height: int


class AcceptedFrame(BaseModel):
    """The response to a frame that is durable and acknowledged."""

    frame_id: str = Field(examples=["0b9a3c1e-5f0e-5a37-9d5c-3f2f8d9a7b61"])
    status: str = Field(examples=["accepted"])
    device_id: str = Field(examples=["drone-1"])
    captured_at: str = Field(examples=["2026-01-31T12:00:00.123456Z"])
    received_at: str
    image: AcceptedImage
    warnings: list[str] = Field(
        description="what of the image's EXIF and XMP could not be read, or was assumed; empty where all is known",
        examples=[["the capture time 2026-01-31 12:00:00 has no time zone; it was read as UTC"]],
    )
    links: dict[str, str] = Field(description="where to look next")


_ABOUT: dict[str, tuple[str, Json, JsonValue]] = {
    "device_id": ("The sending device; default, and only one allowed: the token's", {"type": "string"}, "drone-1"),
    "captured_at": (
        "When the picture was taken, RFC 3339 with a zone. Default: the image's EXIF or XMP (read as UTC where those "
        "have neither a zone nor a GPS time). Required when neither is there: it is part of the frame's identity",
        {"type": "string", "format": "date-time"},
        "2026-01-31T12:00:00.123456Z",
    ),
    "original_filename": ("A name to show; nothing is stored under it", {"type": "string"}, "DJI_0028.JPG"),
    "metadata": (
        "Any JSON object; it is kept with the frame",
        {"type": "string", "contentMediaType": "application/json"},
        '{"mission": "north"}',
    ),
}

_ERRORS: dict[str, dict[str, tuple[str, str]]] = {
    "400": {
        "INVALID_FORMAT": (
            "not an image: JPEG, PNG, TIFF and WebP are accepted, but the content begins with 00 01 02 03",
            "image",
        ),
        "FILE_TOO_LARGE": ("the upload has 11000000 bytes; at most 10000000 are accepted", "image"),
        "INVALID_DIMENSIONS": ("the image is 50000x50000 px; each side may have at most 16384", "image"),
        "CORRUPTED_FILE": ("the JPEG file has no end marker behind its scan; it was cut off", "image"),
        "TOO_COSTLY": ("the JPEG has more than 31 scans of 9600×9600 px; an ordinary picture has at most 14", "image"),
        "INVALID_CAPTURE_TIME": ("captured_at is 2099-01-01T00:00:00.000000Z, which is in the future", "captured_at"),
        "VALIDATION_ERROR": ("unknown field 'altitude'", "altitude"),
    },
    "401": {"UNAUTHORIZED": ("the device token is not valid", "")},
    "403": {"ACCESS_DENIED": ("the token belongs to a different device than 'drone-2'", "device_id")},
    "408": {"UPLOAD_TIMEOUT": ("only 65536 bytes were received within 30 s", "")},
    "415": {"UNSUPPORTED_MEDIA_TYPE": ("Content-Type 'application/json' is not for images", "Content-Type")},
    "503": {
        "OVERLOADED": ("the gateway has as many uploads in progress as it accepts; nothing was read", ""),
        **{code: (text, "") for code, text in UNAVAILABLE_CODES.items()},
    },
}
_STATUS_TEXT = {
    "400": "The request or the image is wrong",
    "401": "No valid device token; the body was not read",
    "403": "The token belongs to a different device",
    "408": "The body was sent too slowly",
    "415": "The Content-Type is not for images",
    "503": "Busy, or a service is unavailable: send the same again after Retry-After seconds",
}


def document(app: FastAPI, frames_path: str, settings: GatewaySettings) -> None:
    """Add the frames endpoint to ``app.openapi()``."""

    def openapi() -> dict[str, object]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            components = schema.setdefault("components", {})
            components.setdefault("schemas", {}).update(_component_schemas())
            components["securitySchemes"] = {
                "DeviceToken": {"type": "apiKey", "in": "header", "name": "X-API-Token"},
                "Bearer": {"type": "http", "scheme": "bearer"},
            }
            schema["paths"][frames_path] = {"post": _operation(settings)}
            app.openapi_schema = schema
        return app.openapi_schema

    async def page(_: Request) -> Response:
        # FastAPI's own route would write the whole document anew for each request.
        if "page" not in written:
            written["page"] = orjson.dumps(openapi())
        return Response(written["page"], media_type="application/json")

    written: dict[str, bytes] = {}
    app.router.routes.insert(0, Route(app.openapi_url or "/openapi.json", page))
    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _component_schemas() -> Json:
    found: Json = {}
    for model in (ErrorBody, AcceptedFrame):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        found.update(schema.pop("$defs", {}))
        found[model.__name__] = schema
    return found


def _operation(settings: GatewaySettings) -> Json:
    fields = _fields()
    parameters: list[JsonValue] = [{"name": name, "in": "query", **about} for name, about in fields.items()]
    form: Json = {name: {**_schema(about), "description": about["description"]} for name, about in fields.items()}
    image: Json = {"type": "string", "format": "binary"}
    content: Json = {kind: {"schema": image} for kind in _IMAGE_TYPES}
    content["multipart/form-data"] = {
        "schema": {"type": "object", "required": ["image"], "properties": {"image": image, **form}}
    }
    responses: Json = {
        "202": {
            "description": "Stored and announced",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/AcceptedFrame"}}},
        }
    }
    responses.update({status: _error(status) for status in _ERRORS})
    return {
        "tags": ["frames"],
        "summary": "Send one frame",
        "description": (
            f"The image itself as the body, with parameters in the query or in `X-Standgale-…` headers "
            f"(`X-Standgale-Captured-At`), or a multipart form with a part `image` and fields. At most "
            f"{settings.max_image_bytes} bytes, sides of {settings.min_side_px} to {settings.max_side_px} px, "
            f"{settings.max_pixels} pixels. Camera geometry is read from EXIF and XMP where the request "
            "has none; `warnings` of the response name what was assumed or could not be read there."
        ),
        "operationId": "send_frame",
        "security": [{"DeviceToken": []}, {"Bearer": []}],
        "parameters": parameters,
        "requestBody": {"required": True, "content": content},
        "responses": responses,
    }


def _fields() -> dict[str, Json]:
    fields: dict[str, Json] = {
        name: {"description": about, "schema": schema, "example": example}
        for name, (about, schema, example) in _ABOUT.items()
    }
    camera = CameraGeometry.model_json_schema()["properties"]
    for name in CAMERA_FIELDS:
        number = dict(camera[name]["anyOf"][0])
        fields[name] = {"description": camera[name].get("description", name.replace("_", " ")), "schema": number}
    return fields


def _schema(about: Json) -> Json:
    schema = about["schema"]
    assert isinstance(schema, dict)
    return schema


def _error(status: str) -> Json:
    examples: Json = {}
    for code, (message, field) in _ERRORS[status].items():
        example: Json = {
            "status": "error",
            "message": message,
            "error_code": code,
            "details": None,
            "timestamp": "2026-01-31T12:00:00.123456Z",
            "request_id": "req-8f14e45fceea467a9b36b0e0c6a1f2d3",
        }
        if field:
            example.update(field=field, documentation_url="/docs")
        examples[code] = {"value": example}
    response: Json = {
        "description": _STATUS_TEXT[status],
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}, "examples": examples}},
    }
    if status == "503":
        response["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
    return response
