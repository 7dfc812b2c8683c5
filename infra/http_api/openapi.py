"""Makes the OpenAPI document of an API once, and describes in it the one body that all errors have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.process.error_body import error_body

_REQUEST_ID = "req-8f14e45fceea467a9b36b0e0c6a1f2d3"
_TIME = "2026-01-31T12:00:00.123456Z"
_SCHEMAS = "#/components/schemas/"


class ErrorParts(BaseModel):
    """What went wrong, and what to do."""

    code: str = Field(description="for programs; stable")
    message: str = Field(description="for people")
    details: str | None = Field(description="what to do about it")
    field: str | None = Field(description="the wrong parameter")
    timestamp: str
    request_id: str
    documentation_url: str | None = Field(description="a page of this server about the code")


class ErrorBody(BaseModel):
    """The body of every error response; what ``error`` has stands beside it, too."""

    status: str = Field(examples=["error"])
    error: ErrorParts
    message: str = Field(description="for people")
    error_code: str = Field(description="for programs; stable")
    details: str | None = Field(description="what to do about it")
    timestamp: str
    request_id: str
    field: str | None = Field(default=None, description="the wrong parameter")
    documentation_url: str | None = None
    errors: list[dict[str, str]] = Field(default=[], description="each wrong field or file, where there are several")


def serve_document(app: FastAPI, complete: Callable[[dict[str, Any]], None]) -> None:
    """Serve the document, and return it from ``app.openapi()``; ``complete`` adds what the framework does not know."""
    written: dict[str, bytes] = {}

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            complete(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    async def page(_: Request) -> Response:
        # The framework's own route would write the whole document anew for each request.
        if "page" not in written:
            written["page"] = orjson.dumps(openapi())
        return Response(written["page"], media_type="application/json")

    app.router.routes.insert(0, Route(app.openapi_url or "/openapi.json", page))
    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def component_schemas(models: Iterable[type[BaseModel]]) -> dict[str, Any]:
    """Return the schemas of ``models``, and of all that they are made of, by name."""
    found: dict[str, Any] = {}
    for model in models:
        schema = model.model_json_schema(ref_template=f"{_SCHEMAS}{{model}}")
        found.update(schema.pop("$defs", {}))
        found[model.__name__] = schema
    return found


def body_response(description: str, body: str) -> dict[str, Any]:
    """Return a response of the document, whose JSON has the schema ``body``."""
    return {"description": description, "content": {"application/json": {"schema": {"$ref": f"{_SCHEMAS}{body}"}}}}


def error_example(code: str, message: str, *, details: str | None = None, field: str | None = None) -> dict[str, Any]:
    """Return the body of an error, with an id and a time that are always the same."""
    example = error_body(code, message, _REQUEST_ID, details, field, is_documented=True)
    example["timestamp"] = example["error"]["timestamp"] = _TIME
    return example


def error_response(status: str, description: str, examples: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return an error response of the document, with ``examples`` of its body by code."""
    response: dict[str, Any] = {
        "description": description,
        "content": {
            "application/json": {
                "schema": {"$ref": f"{_SCHEMAS}{ErrorBody.__name__}"},
                "examples": {code: {"value": example} for code, example in examples.items()},
            }
        },
    }
    if status in ("429", "503"):
        response["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
    return response
