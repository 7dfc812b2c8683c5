"""Serves `GET /api/v1/detections/stream`: checks the request, then writes the shared bytes of the stream.

The response is plain ASGI: sending the same bytes to a thousand clients is the main work of this process, and a plain
send costs less than half of a generator with a task group per client.
"""

from __future__ import annotations

import asyncio
import logging
import time
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from infra.errors import TransientError
from infra.http_api.errors.pages import add_error_pages
from infra.process.direct_writes import direct_write_of
from infra.process.http_connections import address_of
from infra.storage.frames.port import FrameStore
from infra.telemetry.http import HttpTelemetry
from schemas.errors import StandgaleError
from sinks.metrics import SSE_DROPPED
from sinks.settings import SseSettings
from sinks.sse.access.access import (
    TOKEN_PARAMETER,
    TOKENS_PATH,
    ForbiddenError,
    NotFoundError,
    StreamAccess,
    Subscriber,
    UnauthorizedError,
)
from sinks.sse.access.token_route import TokenRoute
from sinks.sse.error_codes import SSE_CODES
from sinks.sse.filters import FilterError, parse_query
from sinks.sse.hub import Client, DetectionHub
from sinks.sse.pictures.addresses import IMAGES_PATH
from sinks.sse.pictures.route import PictureRoute
from sinks.sse.responses import CHALLENGE, RETRY_AFTER_S, error_answer, later_answer
from sinks.sse.session import STREAM, Session

logger = logging.getLogger(__name__)

STREAM_PATH = "/api/v1/detections/stream"
_LAST_EVENT_ID = "last_event_id"
# A hundred devices, jobs, media, flights and labels, and the others once.
_MAX_PARAMETERS = 520
_MAX_BODY_BYTES = 65_536
_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # A proxy that buffers would delay events and send several at once.
    (b"x-accel-buffering", b"no"),
)
_STATUS = {FilterError.code: 400, UnauthorizedError.code: 401, ForbiddenError.code: 403, NotFoundError.code: 404}


def sse_routes(hub: DetectionHub, access: StreamAccess | None = None, store: FrameStore | None = None) -> list[Route]:
    """Return the routes for an app; the hub must run in the same process.

    ``access`` knows who may follow the stream; without it the settings decide alone. ``store`` has the pictures.
    """
    access = access or StreamAccess(hub.settings)
    routes = [Route(STREAM_PATH, _Stream(hub, access), methods=["GET"], name="detections-stream")]
    if access.tokens is not None:
        endpoint = TokenRoute(access, access.tokens, STREAM_PATH)
        routes.append(Route(TOKENS_PATH, endpoint, methods=["POST"], name="detections-stream-tokens"))
    if store is not None:
        picture = PictureRoute(hub.pictures, store)
        routes.append(Route(f"{IMAGES_PATH}/{{name}}", picture, methods=["GET"], name="detections-image"))
    return routes


def create_sse_app(
    hub: DetectionHub,
    settings: SseSettings,
    access: StreamAccess | None = None,
    store: FrameStore | None = None,
) -> Starlette:
    """Return an app with the routes, CORS from the settings, and the telemetry of every service."""
    middleware = [Middleware(HttpTelemetry)]
    if settings.cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(settings.cors_origins),
                allow_methods=["GET", "POST"],
                allow_headers=[
                    *("Authorization", "X-API-Key", "X-API-Token", "Last-Event-ID", "Cache-Control", "Content-Type")
                ],
            )
        )
    app = Starlette(routes=sse_routes(hub, access, store), middleware=middleware)
    add_error_pages(app, SSE_CODES)
    # It would redirect to http, also behind a proxy with TLS: then the client would send its token in clear.
    app.router.redirect_slashes = False
    return app


class _Stream:
    """Is the endpoint as an ASGI app."""

    def __init__(self, hub: DetectionHub, access: StreamAccess) -> None:
        self._hub = hub
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or stream until one side ends it."""
        request = Request(scope)
        try:
            parameters = _parameters(request)
            await self._access.look_up(request.headers)
            subscriber = self._subscriber(request, parameters)
            refusal = self._refusal(request)
            if refusal is None:
                session = await self._session(request, subscriber, parameters)
                # Others may have come while the database was asked.
                refusal = self._refusal(request)
        except (FilterError, UnauthorizedError, ForbiddenError, NotFoundError) as error:
            status = _STATUS[error.code]
            refusal = error_answer(request, status, error.code, str(error), CHALLENGE if status == 401 else None)
        except TransientError as error:
            refusal = later_answer(request, error)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        with self._hub.client(session, _address(scope), lambda: self._access.is_valid(subscriber)) as client:
            client.writer = asyncio.create_task(_write(client, send), name="sse-client")
            await _run_until_gone(client, client.writer, receive)

    def _subscriber(self, request: Request, parameters: list[tuple[str, str]]) -> Subscriber:
        in_query = next((value for name, value in parameters if name == TOKEN_PARAMETER), "")
        return self._access.subscriber(request.headers, in_query)

    def _refusal(self, request: Request) -> JSONResponse | None:
        hub, headers = self._hub, {"Retry-After": str(RETRY_AFTER_S)}
        if hub.closing:
            text = "the stream is shutting down; connect again"
            return error_answer(request, 503, "SHUTTING_DOWN", text, headers)
        if hub.full:
            text = f"{hub.settings.max_clients} clients are connected, which is the limit (sse.max_clients)"
            return error_answer(request, 503, "TOO_MANY_CLIENTS", text, headers)
        if hub.full_for(_address(request.scope)):
            text = "this address has its share of the clients (http.address_share of sse.max_clients)"
            return error_answer(request, 503, "TOO_MANY_CLIENTS", text, headers)
        return None

    async def _session(self, request: Request, subscriber: Subscriber, parameters: list[tuple[str, str]]) -> Session:
        own = (_LAST_EVENT_ID, TOKEN_PARAMETER)
        query = parse_query((name, value) for name, value in parameters if name not in own)
        wanted = await self._access.filter_of(subscriber, query)
        # A reconnecting browser sends the header, while the address still has the id from when the page was opened.
        in_query = next((value for name, value in parameters if name == _LAST_EVENT_ID), None)
        last = request.headers.get("last-event-id") or in_query or None
        followed = self._access.followed_media(subscriber, query)
        return Session(self._hub, wanted, last, direct_write_of(request.scope), followed)


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
