"""The stream's HTTP edge: `GET /api/v1/detections/stream`, its checks, and a response that writes shared bytes.

The response is plain ASGI: handing the same bytes to a thousand clients is all this process does, and a plain send
costs less than half of what a generator behind a task group per client does.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from infra.telemetry.http import HttpTelemetry
from schemas.errors import StandgaleError
from schemas.timestamps import format_utc, utc_now
from sinks.settings import SseSettings
from sinks.sse.filters import FilterError, parse_filter
from sinks.sse.hub import Client, DetectionHub
from sinks.sse.positions import MAX_PARTITIONS, PositionError, decode_position
from sinks.sse.session import Session

logger = logging.getLogger(__name__)

STREAM_PATH = "/api/v1/detections/stream"
_LAST_EVENT_ID = "last_event_id"
_RETRY_AFTER_S = 5
_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # Proxies that buffer would turn a live stream into one that arrives in lumps.
    (b"x-accel-buffering", b"no"),
)


def sse_routes(hub: DetectionHub) -> list[Route]:
    """The routes to mount where other routes are; the hub must run beside them."""
    return [Route(STREAM_PATH, _Stream(hub), methods=["GET"], name="detections-stream")]


def create_sse_app(hub: DetectionHub, settings: SseSettings) -> Starlette:
    """The routes as an app of their own, with CORS as set and the telemetry every service has."""
    middleware = [Middleware(HttpTelemetry)]
    if settings.cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(settings.cors_origins),
                allow_methods=["GET"],
                allow_headers=["Authorization", "X-API-Token", "Last-Event-ID", "Cache-Control"],
            )
        )
    return Starlette(routes=sse_routes(hub), middleware=middleware)


class _Stream:
    """The endpoint, as an ASGI app."""

    def __init__(self, hub: DetectionHub) -> None:
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or stream until either side ends it."""
        request = Request(scope)
        refusal = self._refusal(request)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        try:
            session = self._session(request)
        except (FilterError, PositionError) as error:
            await _error(request, 400, error.code, str(error))(scope, receive, send)
            return
        with self._hub.client(session) as client:
            client.writer = asyncio.create_task(_write(client, send), name="sse-client")
            await _run_until_gone(client.writer, receive)

    def _refusal(self, request: Request) -> JSONResponse | None:
        hub = self._hub
        if hub.settings.tokens and not _shows_token(request.headers, hub.settings):
            text = "a token is needed: send it as X-API-Token or as Authorization: Bearer"
            return _error(request, 401, "UNAUTHORIZED", text, {"WWW-Authenticate": "Bearer"})
        if hub.closing:
            text = "the stream is shutting down; connect again"
            return _error(request, 503, "SHUTTING_DOWN", text, {"Retry-After": str(_RETRY_AFTER_S)})
        if hub.full:
            text = f"{hub.settings.max_clients} clients are connected, the most there may be (sse.max_clients)"
            return _error(request, 503, "TOO_MANY_CLIENTS", text, {"Retry-After": str(_RETRY_AFTER_S)})
        return None

    def _session(self, request: Request) -> Session:
        parameters = request.query_params.multi_items()
        wanted = parse_filter((name, value) for name, value in parameters if name != _LAST_EVENT_ID)
        # A browser that reconnects sends the header; the address still has the id the page was opened with.
        last = request.headers.get("last-event-id") or request.query_params.get(_LAST_EVENT_ID) or None
        if last is not None:
            decode_position(last, self._hub.partitions or MAX_PARTITIONS, self._hub.ring.mark)
        return Session(self._hub, wanted, last)


async def _write(client: Client, send: Send) -> None:
    """The whole response."""

    async def write(data: bytes) -> None:
        client.writing_since = time.monotonic()
        await send({"type": "http.response.body", "body": data, "more_body": True})
        client.writing_since = None

    # A list of this response's own: middleware adds to it.
    await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
    try:
        await client.session.run(write)
    except StandgaleError as error:
        logger.warning("a client's stream ended: %s", error)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _run_until_gone(writer: asyncio.Task[None], receive: Receive) -> None:
    """Wait for the stream to end by itself, or end it when the client is gone."""
    gone = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({writer, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        writer.cancel()
        gone.cancel()
        await asyncio.gather(writer, gone, return_exceptions=True)
    if not writer.cancelled() and (failure := writer.exception()) is not None:
        logger.error("a client's stream failed and was closed: %s", failure, exc_info=failure)


async def _disconnected(receive: Receive) -> None:
    """Return when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _shows_token(headers: Headers, settings: SseSettings) -> bool:
    """Whether the request carries one of the tokens; takes the same time for every wrong one."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    shown = headers.get("x-api-token") or (bearer.strip() if scheme.lower() == "bearer" else "")
    matches = [hmac.compare_digest(shown.encode(), token.get_secret_value().encode()) for token in settings.tokens]
    return any(matches)


def _error(
    request: Request, status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    body = {
        "status": "error",
        "message": message,
        "error_code": code,
        "details": None,
        "timestamp": format_utc(utc_now()),
        "request_id": request.scope.get("state", {}).get("request_id"),
    }
    return JSONResponse(body, status_code=status, headers=headers)
