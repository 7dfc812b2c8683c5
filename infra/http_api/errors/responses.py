"""Turns errors into responses with one flat body and a stable code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from infra.http_api.errors.texts import ErrorText
from infra.process.error_body import error_body

DOCUMENTATION_URL = "/docs"

_MAX_SHOWN_PATH = 200
_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_HTTP_CODES = {400: "BAD_REQUEST", 404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}


def text_response(text: ErrorText, request_id: str) -> Response:
    """Return the response with ``text``."""
    body = _body(text.code, text.message, request_id, text.details, text.field, text.errors)
    return _response(text.status, body, text.headers or {})


def no_websocket_response(path: str, request_id: str, websockets: str | None) -> Response:
    """Return the response to the handshake of a WebSocket at a ``path`` that has none; ``websockets``: where one is."""
    known = f"{DOCUMENTATION_URL} describes the paths and their methods"
    details = known if websockets is None else f"{websockets}; {known}"
    body = _body("NOT_FOUND", f"{path[:_MAX_SHOWN_PATH]}: there is no WebSocket here", request_id, details)
    return _response(404, body, {})


async def http_exception_response(request: Request, error: Exception) -> Response:
    """Return the response to the framework's errors (404, 405, …)."""
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, f"HTTP_{error.status_code}")
    message = f"{request.method} {request.scope['path'][:_MAX_SHOWN_PATH]}: {error.detail}"
    details = f"{DOCUMENTATION_URL} describes the paths and their methods" if error.status_code in (404, 405) else None
    body = _body(code, message, request_id_of(request.scope), details)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(sorted(_methods_of(request)))
    return _response(error.status_code, body, headers)


def _methods_of(request: Request) -> set[str]:
    """Return the methods of all routes of the path; the framework names those of the first route only."""
    # Asked of each route, as those of included routers have no methods to read.
    return {
        method
        for method in _METHODS
        for route in request.app.routes
        if route.matches({**request.scope, "method": method})[0] is Match.FULL
    }


async def validation_response(request: Request, error: Exception) -> Response:
    """Return the response to the framework's validation errors; it names the first wrong field."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:]) or None
    details = f"{len(error.errors())} fields are wrong"
    return _response(422, _body("VALIDATION_ERROR", first["msg"], request_id_of(request.scope), details, field), {})


def request_id_of(scope: Scope) -> str:
    """Return the id that the telemetry middleware gave to the request."""
    return str(scope.get("state", {}).get("request_id", ""))


def _body(
    code: str,
    message: str,
    request_id: str,
    details: str | None = None,
    field: str | None = None,
    errors: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    return error_body(code, message, request_id, details, field, errors=errors, is_documented=True)


def _response(status: int, body: dict[str, Any], headers: Mapping[str, str]) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type="application/json")
