"""Adds to the OpenAPI document what FastAPI does not know: the endpoints that take images, and their errors."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI

from infra.http_api.openapi import component_schemas, serve_document
from infra.http_api.versions import Deprecation
from ingest.gateway.openapi.bodies import BODIES
from ingest.gateway.openapi.errors import Json

DESCRIPTION = """\
Takes frames from drones and cameras. After a response 202 the frame is durable in the frame store and acknowledged
by the broker; sending it again is harmless, because the same device, capture time and content are the same frame.

Every error has one body; `error_code` is stable. 408, 429 and 5xx: send the same again, after `Retry-After` seconds at
the earliest. Other 4xx: change the request first. `X-Request-ID` is taken from the request or made, and is in every
response and log line.
"""

_TAGS = {
    "frames": "Send frames: one, many at once, or over one connection.",
    "detections": "Follow what was found.",
    "flights": "Announce flights, and ask what became of them.",
    "originals": "Upload images that are too large for one request.",
    "operations": "Whether the gateway works, and how much it does.",
    "contracts": "The schemas of the events.",
}
"""The groups of endpoints, in the order of the pages /docs and /redoc: what a newcomer looks for is first."""


def document(app: FastAPI, operations: Mapping[str, Json], deprecated: Sequence[Deprecation] = ()) -> None:
    """Serve the document with ``operations`` (by path and method), in which what is ``deprecated`` is marked."""

    def complete(schema: dict[str, Any]) -> None:
        components = schema.setdefault("components", {})
        components.setdefault("schemas", {}).update(component_schemas(BODIES))
        components["securitySchemes"] = {
            "DeviceToken": {"type": "apiKey", "in": "header", "name": "X-API-Token"},
            "Bearer": {"type": "http", "scheme": "bearer"},
        }
        schema["paths"].update(copy.deepcopy(dict(operations)))
        schema["tags"] = [{"name": name, "description": text} for name, text in _TAGS.items()]
        _remove_framework_errors(schema["paths"], components["schemas"])
        _mark(schema["paths"], deprecated)

    serve_document(app, complete)


def _remove_framework_errors(paths: dict[str, dict[str, dict[str, Any]]], schemas: dict[str, Any]) -> None:
    """Remove the errors that the framework adds: its bodies are replaced, and a text parameter is never wrong."""
    reference = {"$ref": "#/components/schemas/HTTPValidationError"}
    for methods in paths.values():
        for operation in methods.values():
            content = operation["responses"].get("422", {}).get("content", {})
            if content.get("application/json", {}).get("schema") == reference:
                del operation["responses"]["422"]
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)


def _mark(paths: dict[str, dict[str, dict[str, Any]]], deprecated: Sequence[Deprecation]) -> None:
    """Mark routes and fields as deprecated. Raises KeyError for a route that is not there."""
    for one in deprecated:
        operation = paths[one.path][one.method.lower()]
        if one.field is None:
            operation["deprecated"] = True
            continue
        for parameter in operation.get("parameters", ()):
            if parameter["name"] == one.field:
                parameter["deprecated"] = True
        for content in operation.get("requestBody", {}).get("content", {}).values():
            field = content.get("schema", {}).get("properties", {}).get(one.field)
            if field is not None:
                field["deprecated"] = True
