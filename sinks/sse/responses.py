"""Makes the error responses of the live stream and what belongs to it."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse

from infra.errors import TransientError
from infra.process.error_body import error_body

RETRY_AFTER_S = 5
CHALLENGE: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


def error_answer(
    request: Request, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return the response to a request that cannot be served."""
    body = error_body(code, message, request.scope.get("state", {}).get("request_id"), is_documented=True)
    return JSONResponse(body, status_code=status, headers=dict(headers or {}))


def later_answer(request: Request, error: TransientError) -> JSONResponse:
    """Return the response to a request that can be served later."""
    return error_answer(request, 503, error.code, f"{error}; try again", {"Retry-After": str(RETRY_AFTER_S)})
