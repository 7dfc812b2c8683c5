"""Makes the body that every error of an HTTP API has."""

from __future__ import annotations

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
