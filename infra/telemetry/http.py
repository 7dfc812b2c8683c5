"""Wraps every HTTP service: gives each request an id, a trace and metrics, and logs each failed one."""

from __future__ import annotations

import logging
import re
import time
from random import getrandbits

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.telemetry.logs import bind
from infra.telemetry.metrics import API_DURATION, API_REQUESTS, HTTP_DURATION, HTTP_REQUESTS
from infra.telemetry.tracing import Trace, http_span, mark_failed

logger = logging.getLogger(__name__)

REQUEST_ID_HEADER = "X-Request-ID"
_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED = "unmatched"


class HttpTelemetry:
    """Wraps an ASGI app; ``scope["state"]["request_id"]`` and the header ``X-Request-ID`` have the request id.

    An id that the caller sends is kept when it is 1 to 128 letters, digits and ``._-``; else a new one is made.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection; other protocols than HTTP pass unchanged."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id"))
        scope.setdefault("state", {})["request_id"] = request_id
        caller = Trace(_text(headers.get(b"traceparent")), _text(headers.get(b"tracestate")))
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        response = _Response(send, request_id)
        started = time.perf_counter()
        with (
            bind(request_id=request_id),
            http_span(method, caller, {"http.request.method": method, "url.path": scope["path"]}) as span,
        ):
            try:
                await self._app(scope, receive, response)
            finally:
                # The route is known only now; a stream that lasts for hours counts until its first byte.
                endpoint = _endpoint(scope)
                seconds = (response.streaming_at or time.perf_counter()) - started
                _observe(scope["path"], method, endpoint, response.status, seconds)
                if span is not None:
                    span.update_name(f"{method} {endpoint}")
                    span.set_attribute("http.response.status_code", response.status)
                    span.set_attribute("http.route", endpoint)
                if response.status >= 500:
                    mark_failed(span, str(response.status))
                level = logging.WARNING if response.status >= 500 else logging.DEBUG
                logger.log(
                    level,
                    "%s %s: response %d",
                    method,
                    endpoint,
                    response.status,
                    extra={"status": response.status, "duration_ms": round(seconds * 1000, 3)},
                )


class _Response:
    """Forwards what the app sends, adds the request id, and keeps the status (500 until there is one)."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id.encode()
        self.status = 500
        self.streaming_at: float | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            if any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers):
                self.streaming_at = time.perf_counter()
            headers.append((REQUEST_ID_HEADER.lower().encode(), self._request_id))
            message = {**message, "headers": headers}
        await self._send(message)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def _request_id(given: bytes | None) -> str:
    text = _text(given)
    if text is not None and _ACCEPTED_ID.fullmatch(text):
        return text
    # Not uuid4: it asks the kernel each time, which releases the interpreter lock and then waits for busy threads.
    return f"req-{getrandbits(128):032x}"


def _endpoint(scope: Scope) -> str:
    """Return the template of the route that matched: bounded, also when clients try many paths."""
    template = getattr(scope.get("route"), "path", None)
    return template if isinstance(template, str) and template else UNMATCHED


def _observe(path: str, method: str, endpoint: str, status: int, seconds: float) -> None:
    HTTP_REQUESTS.labels(method, endpoint, str(status)).inc()
    HTTP_DURATION.labels(method, endpoint).observe(seconds)
    if path.startswith("/api/"):
        API_REQUESTS.labels(method, endpoint, str(status)).inc()
        API_DURATION.labels(method, endpoint).observe(seconds)
