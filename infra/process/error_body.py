"""Makes the body that every error of an HTTP API has."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import orjson

from schemas.timestamps import format_utc, utc_now


def error_body(code: str, message: str, request_id: str | None, details: str | None = None) -> dict[str, str | None]:
    """Return the body of an error now."""
    return {
        "status": "error",
        "message": message,
        "error_code": code,
        "details": details,
        "timestamp": format_utc(utc_now()),
        "request_id": request_id,
    }


def error_response(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a whole response, for an error below the app; the connection is closed after it."""
    body = orjson.dumps(error_body(code, message, None))
    usual = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    lines = [f"{name}: {value}\r\n" for name, value in {**usual, **(headers or {})}.items()]
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{''.join(lines)}\r\n".encode() + body
