"""Makes the body that every error of an HTTP API has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson

from schemas.timestamps import format_utc, utc_now

ERRORS_PATH = "/api/v1/errors"
"""Where the pages about error codes are, of services that have them."""


def error_body(
    code: str,
    message: str,
    request_id: str | None,
    details: str | None = None,
    field: str | None = None,
    *,
    errors: Sequence[Mapping[str, str]] = (),
    is_documented: bool = False,
) -> dict[str, Any]:
    """Return the body of an error: its members stand in ``error``, and once more beside it for older clients.

    ``field`` names what is wrong in the request, ``errors`` lists several wrong fields or files. ``is_documented``:
    whether the service has a page about its codes. Its time is the present.
    """
    error: dict[str, Any] = {
        "code": code,
        "message": message,
        "details": details,
        "field": field,
        "timestamp": format_utc(utc_now()),
        "request_id": request_id,
        "documentation_url": f"{ERRORS_PATH}/{code}" if is_documented else None,
    }
    flat = {name: value for name, value in error.items() if name not in ("code", "field", "documentation_url")}
    body: dict[str, Any] = {"status": "error", "error": error, "error_code": code, **flat}
    if field is not None:
        body["field"] = field
    if is_documented:
        body["documentation_url"] = error["documentation_url"]
    if errors:
        body["errors"] = list(errors)
    return body


def error_response(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a whole response, for an error below the app; the connection is closed after it."""
    body = orjson.dumps(error_body(code, message, None))
    usual = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    lines = [f"{name}: {value}\r\n" for name, value in {**usual, **(headers or {})}.items()]
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{''.join(lines)}\r\n".encode() + body
