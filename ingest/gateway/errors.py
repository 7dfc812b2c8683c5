"""Defines the errors of the HTTP API and turns errors into responses with one flat body and a stable code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import uniform

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from infra.errors import SettingsError, TransientError
from infra.failure.error_texts import error_code
from infra.process.error_body import error_body
from ingest.acceptance.errors import ApiError
from ingest.images.check import ImageError

INTERNAL_ERROR = "INTERNAL_ERROR"
DOCUMENTATION_URL = "/docs"

UNAVAILABLE_CODES = {
    "STORAGE_UNAVAILABLE": "the frame store is unavailable, so nothing was stored",
    "STORAGE_FULL": "the frame store is full until an operator frees space, so nothing was stored",
    "BROKER_UNAVAILABLE": "the broker is unavailable, so the frame was not accepted",
    "DATABASE_UNAVAILABLE": "the device tokens cannot be read now",
    "REFUSED": "a service behind the gateway refuses it until an operator corrects that, so the frame was not accepted",
    "TOPIC_MISMATCH": "the broker's topics are not as declared, so the frame was not accepted",
    "INVALID_SETTING": "the gateway has a wrong setting, so the frame was not accepted",
}
"""The messages to a device when a service behind the gateway does not work; the log has the complete text."""
_UNAVAILABLE_OTHERWISE = "a service behind the gateway is unavailable"
_MAX_SHOWN_PATH = 200
_HTTP_CODES = {400: "BAD_REQUEST", 404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}


class UploadIncompleteError(ApiError):
    """The client disconnected before its body was complete; it does not receive this response, but it is counted."""

    code = "UPLOAD_INCOMPLETE"


class UploadTimeoutError(ApiError):
    """The body was sent too slowly."""

    code = "UPLOAD_TIMEOUT"
    status = 408


class UnsupportedMediaTypeError(ApiError):
    """The request's Content-Type is not one for images."""

    code = "UNSUPPORTED_MEDIA_TYPE"
    status = 415


def retry_after() -> dict[str, str]:
    """Return a Retry-After header of one to five seconds, at random, so that devices do not all retry at once."""
    return {"Retry-After": str(round(uniform(1, 5)))}  # noqa: S311 (spreads load, guards nothing)


@dataclass(frozen=True, slots=True)
class ErrorText:
    """Holds the text of an error for a client: a stable code, a message for people, and what to do about it."""

    status: int
    code: str
    message: str
    details: str | None = None
    field: str | None = None
    headers: Mapping[str, str] | None = None


def describe_error(error: Exception, request_id: str) -> ErrorText:
    """Return the text of ``error``, of any type, for a client; never internal details."""
    if isinstance(error, ApiError):
        headers = {**retry_after(), **error.headers} if error.status == 503 else error.headers
        return ErrorText(error.status, error.code, str(error), error.details, error.field, headers)
    if isinstance(error, ImageError):
        details = "The content decides, not the name or the Content-Type; the limits are settings of the gateway."
        return ErrorText(400, error.code, str(error), details, "image")
    # Also for a wrong setting: a device must not lose its frame because of an error that an operator can correct.
    # And disk, connection, time limit: never caused by the frame, from any layer.
    if isinstance(error, TransientError | SettingsError | OSError):
        code = error_code(error)
        message = UNAVAILABLE_CODES.get(code, _UNAVAILABLE_OTHERWISE)
        details = "Send the same request again after Retry-After seconds; the same frame is never counted twice."
        return ErrorText(503, code, message, details, headers=retry_after())
    details = f"Nothing was accepted. Give the request id {request_id} to the operator of this gateway."
    return ErrorText(500, INTERNAL_ERROR, "the gateway failed at this request", details)


def error_response(error: Exception, request_id: str) -> Response:
    """Return the response to a request that failed with ``error``."""
    return text_response(describe_error(error, request_id), request_id)


def text_response(text: ErrorText, request_id: str) -> Response:
    """Return the response with ``text``."""
    body = _body(text.code, text.message, request_id, text.details, text.field)
    return _response(text.status, body, text.headers or {})


async def http_exception_response(request: Request, error: Exception) -> Response:
    """Return the response to the framework's errors (404, 405, …)."""
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, f"HTTP_{error.status_code}")
    message = f"{request.method} {request.scope['path'][:_MAX_SHOWN_PATH]}: {error.detail}"
    details = f"{DOCUMENTATION_URL} describes the paths and their methods" if error.status_code in (404, 405) else None
    body = _body(code, message, request_id_of(request.scope), details)
    return _response(error.status_code, body, dict(error.headers or {}))


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
    code: str, message: str, request_id: str, details: str | None = None, field: str | None = None
) -> dict[str, str | None]:
    body = error_body(code, message, request_id, details)
    if field is not None:
        body["field"] = field
        body["documentation_url"] = DOCUMENTATION_URL
    return body


def _response(status: int, body: dict[str, str | None], headers: Mapping[str, str]) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type="application/json")
