"""Serves `GET /api/v1/detections/stream`: checks the request, then writes the shared bytes of the stream.

The response is plain ASGI: sending the same bytes to a thousand clients is the main work of this process, and a plain
send costs less than half of a generator with a task group per client.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from infra.auth.bearer import bearer_token
from infra.process.direct_writes import direct_write_of
from infra.process.error_body import error_body
from infra.process.http_connections import address_of
from infra.telemetry.http import HttpTelemetry
from schemas.errors import StandgaleError
from sinks.metrics import SSE_DROPPED
from sinks.settings import SseSettings
from sinks.sse.filters import FilterError, parse_filter
from sinks.sse.hub import Client, DetectionHub
from sinks.sse.positions import MAX_PARTITIONS, PositionError, decode_position
from sinks.sse.session import STREAM, Session

logger = logging.getLogger(__name__)

STREAM_PATH = "/api/v1/detections/stream"
_LAST_EVENT_ID = "last_event_id"
_RETRY_AFTER_S = 5
# A hundred devices, jobs and labels, and the others once.
_MAX_PARAMETERS = 320
_MAX_BODY_BYTES = 65_536
_MAX_TOKEN = 4_096
_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # A proxy that buffers would delay events and send several at once.
    (b"x-accel-buffering", b"no"),
)


def sse_routes(hub: DetectionHub) -> list[Route]:
    """Return the routes for an app; the hub must run in the same process."""
    return [Route(STREAM_PATH, _Stream(hub), methods=["GET"], name="detections-stream")]


def create_sse_app(hub: DetectionHub, settings: SseSettings) -> Starlette:
    """Return an app with the routes, CORS from the settings, and the telemetry of every service."""
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
    app = Starlette(routes=sse_routes(hub), middleware=middleware)
    # It would redirect to http, also behind a proxy with TLS: then the client would send its token in clear.
    app.router.redirect_slashes = False
    return app


class _Stream:
    """Is the endpoint as an ASGI app."""

    def __init__(self, hub: DetectionHub) -> None:
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or stream until one side ends it."""
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
        with self._hub.client(session, _address(scope)) as client:
            client.writer = asyncio.create_task(_write(client, send), name="sse-client")
            await _run_until_gone(client, client.writer, receive)

    def _refusal(self, request: Request) -> JSONResponse | None:
        hub = self._hub
        if hub.settings.tokens and not _shows_token(request.headers, hub.settings):
            text = "a token is required: send it as X-API-Token or as Authorization: Bearer"
            return _error(request, 401, "UNAUTHORIZED", text, {"WWW-Authenticate": "Bearer"})
        if hub.closing:
            text = "the stream is shutting down; connect again"
            return _error(request, 503, "SHUTTING_DOWN", text, {"Retry-After": str(_RETRY_AFTER_S)})
        if hub.full:
            text = f"{hub.settings.max_clients} clients are connected, which is the limit (sse.max_clients)"
            return _error(request, 503, "TOO_MANY_CLIENTS", text, {"Retry-After": str(_RETRY_AFTER_S)})
        if hub.full_for(_address(request.scope)):
            text = "this address has its share of the clients (http.address_share of sse.max_clients)"
            return _error(request, 503, "TOO_MANY_CLIENTS", text, {"Retry-After": str(_RETRY_AFTER_S)})
        return None

    def _session(self, request: Request) -> Session:
        parameters = _parameters(request)
        wanted = parse_filter((name, value) for name, value in parameters if name != _LAST_EVENT_ID)
        # A reconnecting browser sends the header, while the address still has the id from when the page was opened.
        in_query = next((value for name, value in parameters if name == _LAST_EVENT_ID), None)
        last = request.headers.get("last-event-id") or in_query or None
        if last is not None:
            decode_position(last, self._hub.partitions or MAX_PARTITIONS, self._hub.ring.mark)
        return Session(self._hub, wanted, last, direct_write_of(request.scope))


async def _write(client: Client, send: Send) -> None:
    """Write the whole response."""

    async def write(data: bytes) -> None:
        client.writing_since = time.monotonic()
        await send({"type": "http.response.body", "body": data, "more_body": True})
        client.writing_since = None

    # A new list, because middleware adds headers to it.
    await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
    try:
        await client.session.run(write)
    except StandgaleError as error:
        logger.warning("a client's stream ended: %s", error)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _run_until_gone(client: Client, writer: asyncio.Task[None], receive: Receive) -> None:
    """Wait until the stream ends, or end it when the client has disconnected or was cut off by the server."""
    disconnected = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({writer, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if client.writing_since is not None:
            # In the middle of a write: it read nothing until the server, or the kernel, ended the connection.
            SSE_DROPPED.labels(STREAM).inc()
    finally:
        writer.cancel()
        disconnected.cancel()
        await asyncio.gather(writer, disconnected, return_exceptions=True)
    if not writer.cancelled() and (failure := writer.exception()) is not None:
        logger.error("a client's stream failed and was closed: %s", failure, exc_info=failure)


async def _disconnected(receive: Receive) -> None:
    """Return when the client has disconnected, or sends a body, which it never needs to."""
    size = 0
    while size <= _MAX_BODY_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))


def _parameters(request: Request) -> list[tuple[str, str]]:
    """Return the parameters of the query. Raises FilterError when they are too many."""
    query = request.scope["query_string"].decode("latin-1")
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    except ValueError as error:
        raise FilterError(f"the query has more than {_MAX_PARAMETERS} parameters") from error


def _address(scope: Scope) -> str:
    return address_of(scope.get("client"))


def _shows_token(headers: Headers, settings: SseSettings) -> bool:
    """Whether the request has one of the tokens; this takes the same time for every wrong token."""
    shown = headers.get("x-api-token") or bearer_token(headers.get("authorization", ""))
    if len(shown) > _MAX_TOKEN:
        return False
    matches = [hmac.compare_digest(shown.encode(), token.get_secret_value().encode()) for token in settings.tokens]
    return any(matches)


def _error(
    request: Request, status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    body = error_body(code, message, request.scope.get("state", {}).get("request_id"))
    return JSONResponse(body, status_code=status, headers=headers)
