"""Wraps every HTTP service: gives each request an id, a trace and metrics, and logs failed ones in one line each."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from random import getrandbits

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.telemetry.logs import bind
from infra.telemetry.metrics import API_DURATION, API_REQUESTS, HTTP_DURATION, HTTP_REQUESTS
from infra.telemetry.sampled_log import SampledLog
from infra.telemetry.tracing import Trace, http_span, mark_failed

logger = logging.getLogger(__name__)

REQUEST_ID_HEADER = "X-Request-ID"
_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED = "unmatched"
# A trace header of a caller has 55 characters, its state at most 512; longer ones are not parsed.
_MAX_TRACE_HEADER = 512
_MAX_LOGGED_PATH = 200
_FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class RequestFailure:
    """Says why a request failed, for its one line in the log."""

    code: str
    text: str
    error: BaseException | None = None
    """Given when the log needs the traceback"""


def note_failure(scope: Scope, code: str, text: str, error: BaseException | None = None) -> None:
    """Keep why the request failed; :class:`HttpTelemetry` logs it with the response."""
    scope.setdefault("state", {})[_FAILURE] = RequestFailure(code, text, error)


class HttpTelemetry:
    """Wraps an ASGI app; ``scope["state"]["request_id"]`` and the header ``X-Request-ID`` have the request id.

    An id that the caller sends is kept when it is 1 to 128 letters, digits and ``._-``; else a new one is made.
    A failed request has one line in the log; of many alike only some have, and then their number (:class:`SampledLog`).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._log = SampledLog(logger)

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
            http_span(
                method, caller, {"http.request.method": method, "url.path": scope["path"][:_MAX_LOGGED_PATH]}
            ) as span,
        ):
            try:
                await self._app(scope, receive, response)
            finally:
                # The route is known only now; a stream that lasts for hours counts until its first byte.
                endpoint = endpoint_of(scope)
                seconds = (response.streaming_at or time.perf_counter()) - started
                _observe(scope["path"], method, endpoint, response.status, seconds)
                if span is not None:
                    span.update_name(f"{method} {endpoint}")
                    span.set_attribute("http.response.status_code", response.status)
                    span.set_attribute("http.route", endpoint)
                if response.status >= 500:
                    mark_failed(span, str(response.status))
                if response.status >= 400 or _FAILURE in scope["state"] or logger.isEnabledFor(logging.DEBUG):
                    self._log_outcome(scope, method, endpoint, response.status, seconds)

    def _log_outcome(self, scope: Scope, method: str, endpoint: str, status: int, seconds: float) -> None:
        """Write one line: for a success, or a failure without a reason, only when debugging.

        Of a request that reached no route, such as one without a key, it has the path.
        """
        kind = f"{method} {endpoint}"
        request = f"{method} {_shown(scope['path'])}" if endpoint == UNMATCHED else kind
        failure: RequestFailure | None = scope["state"].get(_FAILURE)
        extra: dict[str, object] = {"status": status, "duration_ms": round(seconds * 1000, 3)}
        if failure is None:
            if status < 500:
                logger.debug("%s: response %d", request, status, extra=extra)
            else:
                self._log.log(
                    logging.WARNING, f"{kind}: response {status}", "%s: response %d", request, status, extra=extra
                )
            return
        level = logging.INFO if status < 500 else logging.WARNING if failure.error is None else logging.ERROR
        self._log.log(
            level,
            f"{kind}: response {status} {failure.code}",
            "%s: response %d: %s",
            request,
            status,
            failure.text,
            extra={**extra, "code": failure.code},
            error=failure.error,
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
    return None if value is None or len(value) > _MAX_TRACE_HEADER else value.decode("latin-1")


def _shown(path: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in path[:_MAX_LOGGED_PATH])


def _request_id(given: bytes | None) -> str:
    text = _text(given)
    if text is not None and _ACCEPTED_ID.fullmatch(text):
        return text
    # Not uuid4: it asks the kernel each time, which releases the interpreter lock and then waits for busy threads.
    return f"req-{getrandbits(128):032x}"


def endpoint_of(scope: Scope) -> str:
    """Return the template of the route that matched: bounded, also when clients try many paths."""
    template = getattr(scope.get("route"), "path", None)
    return template if isinstance(template, str) and template else UNMATCHED


def _observe(path: str, method: str, endpoint: str, status: int, seconds: float) -> None:
    for counter, histogram in _metrics_of(method, endpoint, status, path.startswith("/api/")):
        counter.inc()
        histogram.observe(seconds)


@lru_cache(maxsize=1_024)
def _metrics_of(method: str, endpoint: str, status: int, is_api: bool) -> list[tuple[Counter, Histogram]]:
    """Return what counts such requests and their time, kept because labels are looked up at a cost."""
    found = [(HTTP_REQUESTS.labels(method, endpoint, str(status)), HTTP_DURATION.labels(method, endpoint))]
    if is_api:
        found.append((API_REQUESTS.labels(method, endpoint, str(status)), API_DURATION.labels(method, endpoint)))
    return found
