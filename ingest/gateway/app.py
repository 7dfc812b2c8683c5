"""Builds the gateway's app from endpoints, middleware, and the handlers of the framework's errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.auth.port import Verifier
from infra.http_api.direct_routes import DirectRouting, NamedRoute
from infra.http_api.error_middleware import ErrorMiddleware
from infra.http_api.errors.pages import add_error_pages
from infra.http_api.errors.responses import http_exception_response, validation_response
from infra.http_api.limits.new_tokens import NewTokens
from infra.http_api.limits.rate_middleware import RateMiddleware
from infra.http_api.limits.rates import RateLimits
from infra.http_api.operation_routes import add_operations
from infra.http_api.pages import add_pages
from infra.http_api.versions import API_VERSION, VersionMiddleware
from infra.storage.originals.folder import UPLOAD_PATH, FolderUploads
from infra.telemetry.http import REQUEST_ID_HEADER, HttpTelemetry
from ingest.acceptance.acceptance import Acceptance
from ingest.acceptance.error_texts import describe_frame_error
from ingest.acceptance.fields import KNOWN_FIELDS, TIME_NAMES
from ingest.gateway.batch import BatchEndpoint
from ingest.gateway.detect import DetectEndpoint
from ingest.gateway.error_codes import GATEWAY_CODES
from ingest.gateway.flights import FlightEndpoints
from ingest.gateway.frames import FramesEndpoint
from ingest.gateway.framework import NO_TELEMETRY, GatewayApp, unexpected_response
from ingest.gateway.gateway_parts import GatewayParts
from ingest.gateway.known import KnownEndpoint
from ingest.gateway.openapi import flights as flight_operations
from ingest.gateway.openapi import operations
from ingest.gateway.openapi import originals as original_operations
from ingest.gateway.openapi.document import DESCRIPTION, document
from ingest.gateway.openapi.errors import NO_DOCUMENT, Json
from ingest.gateway.openapi.stream import stream_frames
from ingest.gateway.originals import OFFSET_HEADER, OriginalsEndpoint, UploadEndpoint
from ingest.gateway.request.pairs import HEADER_PREFIX
from ingest.gateway.request.uploads import Uploads
from ingest.metrics import FRAMES_REJECTED
from ingest.stream.endpoint import StreamEndpoint
from schemas.frame_messages import STREAM_PATH

FRAMES_PATH = "/api/v1/frames"
KNOWN_PATH = "/api/v1/frames/known"
DETECT_PATH = "/api/v1/detect"
BATCH_PATH = "/api/v1/detect/batch"
ORIGINALS_PATH = "/api/v1/originals"
FLIGHTS_PATH = "/api/v1/flights"

_EXPOSED_HEADERS = (
    *(REQUEST_ID_HEADER, "X-API-Version", "Retry-After", "WWW-Authenticate", "Deprecation", "Sunset", "Link"),
    OFFSET_HEADER,
    *("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "RateLimit", "RateLimit-Policy"),
)


class AsgiEndpoint:
    """Wraps an ASGI app so that the route does not take a bound method for a function of a request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        await self._app(scope, receive, send)


def create_gateway(parts: GatewayParts) -> FastAPI:
    """Return the gateway's ASGI app. Raises SettingsError when its settings contradict each other."""
    rates = RateLimits(parts.limits, holder="device")
    verifier, parts = parts.verifier, replace(parts, verifier=rates.verifier(parts.verifier))
    app = GatewayApp(
        title="Standgale gateway",
        version=API_VERSION,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        telemetry=NO_TELEMETRY,
    )
    # It would redirect to http, also behind a proxy with TLS: then the client would send its token in clear.
    app.router.redirect_slashes = False
    # Starlette runs the middleware added last first: telemetry is outermost, so every response has its request id.
    app.add_middleware(DirectRouting, routes=app.router.routes)
    app.add_middleware(NewTokens, verifier=verifier, rates=rates)
    app.add_middleware(RateMiddleware, rates=rates)
    app.add_middleware(
        ErrorMiddleware,
        refused=FRAMES_REJECTED,
        describe=describe_frame_error,
        websockets=f"A stream of frames is at {STREAM_PATH}",
    )
    if parts.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(parts.settings.cors_origins),
            allow_methods=["GET", "HEAD", "POST", "PUT"],
            allow_headers=[
                "Authorization",
                "traceparent",
                "Content-Type",
                "Content-Range",
                "X-API-Token",
                # Of the live stream, which is served beside it by `standgale up`.
                *("X-API-Key", "Last-Event-ID", "Cache-Control"),
                REQUEST_ID_HEADER,
                *(HEADER_PREFIX + name.replace("_", "-") for name in (*KNOWN_FIELDS, *TIME_NAMES)),
            ],
            # A token is in a header, which a page has to know; a browser would add a cookie by itself.
            allow_credentials="*" not in parts.settings.cors_origins,
            expose_headers=_EXPOSED_HEADERS,
        )
    app.add_middleware(VersionMiddleware, deprecated=parts.deprecated)
    app.add_middleware(HttpTelemetry)
    app.add_exception_handler(HTTPException, http_exception_response)
    app.add_exception_handler(RequestValidationError, validation_response)
    app.add_exception_handler(Exception, unexpected_response)
    described = _add_ways_in(app, parts, verifier)
    add_operations(app, parts.health)
    _add_documents(app, parts.documents)
    add_pages(app)
    add_error_pages(app, GATEWAY_CODES)
    document(app, described, parts.deprecated)
    return app


def _add_ways_in(app: FastAPI, parts: GatewayParts, verifier: Verifier) -> dict[str, Json]:
    """Add the endpoints that take images, and return their operations by path and method.

    ``verifier`` verifies without counting requests.
    The endpoints are plain ASGI, because FastAPI would read the body before the token is checked.
    """
    acceptance, uploads = Acceptance(parts), Uploads(parts.settings)

    described: dict[str, Json] = {}

    def add(path: str, endpoint: ASGIApp, operation: Json, method: str = "POST") -> None:
        app.router.routes.append(NamedRoute(path, AsgiEndpoint(endpoint), methods=[method]))
        described.setdefault(path, {})[method.lower()] = operation

    settings = parts.settings
    recent = None if parts.streams is None else parts.streams.recent
    add(FRAMES_PATH, FramesEndpoint(acceptance, uploads, parts.stream_url, recent), operations.send_frame(settings))
    if settings.digests_enabled:
        add(KNOWN_PATH, KnownEndpoint(acceptance, uploads, settings), operations.known_frames(settings))
    if parts.answers is not None:
        waiting = acceptance, uploads, parts.answers, settings, parts.stream_url
        add(DETECT_PATH, DetectEndpoint(*waiting), operations.detect(settings))
        if settings.batch_enabled:
            add(BATCH_PATH, BatchEndpoint(*waiting), operations.detect_batch(settings))
    if parts.originals is not None:
        originals = parts.originals
        given = OriginalsEndpoint(acceptance, originals, settings, uploads.turns)
        add(ORIGINALS_PATH, given, original_operations.ask_for_upload(settings))
        if isinstance(originals, FolderUploads):
            upload, path = UploadEndpoint(originals, settings, uploads.turns), f"{UPLOAD_PATH}/{{device}}/{{sha256}}"
            add(path, upload.put, original_operations.upload_original(), "PUT")
            add(path, upload.head, original_operations.ask_for_offset(), "HEAD")
    if parts.flights is not None:
        flights = FlightEndpoints(acceptance, parts.flights, settings, uploads.turns)
        add(FLIGHTS_PATH, flights.announce, flight_operations.announce_flight())
        add(FLIGHTS_PATH, flights.list, flight_operations.list_flights(), "GET")
        add(f"{FLIGHTS_PATH}/{{flight}}", flights.get, flight_operations.get_flight(), "GET")
        add(f"{FLIGHTS_PATH}/{{flight}}/close", flights.close, flight_operations.close_flight())
    if parts.streams is not None:
        endpoint = StreamEndpoint(acceptance, verifier, uploads.slots, settings, parts.streams)
        app.router.routes.extend(
            (WebSocketRoute(STREAM_PATH, endpoint), NamedRoute(STREAM_PATH, endpoint, methods=["GET"]))
        )
        described[STREAM_PATH] = {"get": stream_frames(settings, parts.streams.settings)}
    return described


def _add_documents(app: FastAPI, documents: Mapping[str, str]) -> None:
    """Add the endpoints of the contracts: JSON Schemas of the events and the AsyncAPI document."""

    @app.get("/api/v1/schemas", tags=["contracts"], summary="The documents there are")
    async def list_documents() -> list[str]:
        return sorted(documents)

    @app.get(
        "/api/v1/schemas/{name}",
        tags=["contracts"],
        summary="One document",
        response_class=Response,
        responses=NO_DOCUMENT,
    )
    async def read_document(name: str) -> Response:
        text = documents.get(name)
        if text is None:
            raise HTTPException(404, "there is no such document; /api/v1/schemas lists all documents")
        return Response(text, media_type="application/json" if name.endswith(".json") else "application/yaml")
