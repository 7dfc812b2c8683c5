"""Adds to the OpenAPI document what FastAPI does not know: the endpoints that take images, and their errors."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ingest.gateway.openapi.bodies import BODIES
from ingest.gateway.openapi.errors import Json
from ingest.gateway.versions import Deprecation

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
    """Add ``operations`` (by path and method) to ``app.openapi()``, and mark what is ``deprecated``."""

    def openapi() -> dict[str, object]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            components = schema.setdefault("components", {})
            components.setdefault("schemas", {}).update(_component_schemas())
            components["securitySchemes"] = {
                "DeviceToken": {"type": "apiKey", "in": "header", "name": "X-API-Token"},
                "Bearer": {"type": "http", "scheme": "bearer"},
            }
            schema["paths"].update(copy.deepcopy(dict(operations)))
            schema["tags"] = [{"name": name, "description": text} for name, text in _TAGS.items()]
            _remove_framework_errors(schema["paths"], components["schemas"])
            _mark(schema["paths"], deprecated)
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


def _component_schemas() -> Json:
    found: Json = {}
    for model in BODIES:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        found.update(schema.pop("$defs", {}))
        found[model.__name__] = schema
    return found
