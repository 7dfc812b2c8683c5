"""Describes the endpoints of originals: large images that are uploaded first, and announced as frames then."""

from __future__ import annotations

from typing import get_args

from pydantic import JsonValue

from infra.http_api.openapi import body_response
from ingest.gateway.openapi.errors import Json, original_error_responses
from ingest.settings import GatewaySettings
from schemas.event_base import DEVICE_ID_PATTERN
from schemas.events import MediaType

_DIGEST: Json = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_EXAMPLE_DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_BINARY: Json = {"type": "string", "format": "binary"}
_OFFSET: Json = {"Upload-Offset": {"schema": {"type": "integer"}, "description": "bytes that are here"}}
_QUERY: list[JsonValue] = [
    {"name": name, "in": "query", "required": True, "schema": {"type": "string"}}
    for name in ("size", "type", "expires", "signature")
]
_ADDRESS: list[JsonValue] = [
    {"name": "device", "in": "path", "required": True, "schema": {"type": "string", "pattern": DEVICE_ID_PATTERN}},
    {"name": "sha256", "in": "path", "required": True, "schema": _DIGEST},
    *_QUERY,
]


def ask_for_upload(settings: GatewaySettings) -> Json:
    """Return the operation of POST /api/v1/originals."""
    properties: Json = {
        "sha256": _DIGEST,
        "size_bytes": {"type": "integer", "minimum": 1, "maximum": settings.max_original_bytes},
        "media_type": {"type": "string", "enum": list(get_args(MediaType))},
    }
    example: Json = {"sha256": _EXAMPLE_DIGEST, "size_bytes": 180_000_000, "media_type": "image/tiff"}
    schema: Json = {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }
    return {
        "tags": ["originals"],
        "summary": "Where to upload a large image",
        "description": f"For images of up to {settings.max_original_bytes} bytes and {settings.max_original_pixels} "
        "pixels. Upload it with the PUT of the response, then announce it: POST /api/v1/frames with `sha256` and "
        "without a body.",
        "operationId": "ask_for_upload",
        "security": [{"DeviceToken": []}, {"Bearer": []}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}},
        "responses": {
            "200": body_response("Where to upload it, or that it is stored already", "OriginalUpload"),
            **original_error_responses(("400", "401", "408", "409", "429", "503")),
        },
    }


def upload_original() -> Json:
    """Return the operation of PUT on the address of an upload."""
    content: Json = {kind: {"schema": _BINARY} for kind in get_args(MediaType)}
    content_range: Json = {
        "name": "Content-Range",
        "in": "header",
        "description": "To continue an upload, or to send it in parts: bytes FIRST-LAST/SIZE",
        "schema": {"type": "string", "pattern": "^bytes [0-9]+-[0-9]+/[0-9]+$"},
    }
    return {
        "tags": ["originals"],
        "summary": "Upload a large image",
        "description": "The address is signed; no token is needed. Of an upload that is cut off the bytes stay, and it "
        "can be continued. Only where frames are kept in a folder: with S3 the address is one of the store.",
        "operationId": "upload_original",
        "security": [],
        "parameters": [*_ADDRESS, content_range],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {**body_response("All of it is here, with the right digest", "UploadState"), "headers": _OFFSET},
            "202": {**body_response("A part is here", "UploadState"), "headers": _OFFSET},
            **original_error_responses(("400", "403", "408", "409", "429", "503")),
        },
    }


def ask_for_offset() -> Json:
    """Return the operation of HEAD on the address of an upload."""
    return {
        "tags": ["originals"],
        "summary": "How much of an upload is here",
        "operationId": "ask_for_offset",
        "security": [],
        "parameters": _ADDRESS,
        "responses": {
            "200": {"description": "It is in the header", "headers": _OFFSET},
            "403": {"description": "The address is not valid"},
            "429": {"description": "The address asks too often"},
            "503": {"description": "The frame store is unavailable"},
        },
    }
