"""Builds the console's app from the routes of its rooms, middleware, and the handlers of the framework's errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.http.bodies import BodyLimits
from console.http.callers import PUBLIC, KeyMiddleware, public_paths
from console.http.document import complete, operation_id
from console.http.error_codes import CONSOLE_CODES
from console.metrics import REQUESTS_REFUSED
from console.parts import ConsoleParts
from infra.telemetry.http import REQUEST_ID_HEADER, HttpTelemetry
from ingest.gateway.error_middleware import ErrorMiddleware
from ingest.gateway.error_pages import add_error_pages
from ingest.gateway.errors import http_exception_response, validation_response
from ingest.gateway.operation_routes import add_operations
from ingest.gateway.pages import add_pages
from ingest.gateway.rate_middleware import RateMiddleware
from ingest.gateway.request.body import DeviceTurns
from ingest.gateway.versions import API_VERSION, VersionMiddleware
from ingest.limits.rates import RateLimits

_DESCRIPTION = """\
Takes pictures from people and their programs, finds things in them as a job, and gives back boxes, label files and
drawn pictures. Every request has an API key, as `X-API-Key` or as a bearer token.

Every error has one body; its code is stable, and `documentation_url` leads to what it means and what to do about it.
"""
# The last two are of media: a token for another service, and where a stream goes on.
_ALLOWED_HEADERS = (
    *("Authorization", "Content-Type", "X-API-Key", "X-API-Token"),
    *("X-Refresh-Token", "Last-Event-ID"),
)
_EXPOSED_HEADERS = (REQUEST_ID_HEADER, "X-API-Version", "Retry-After", "WWW-Authenticate", "Content-Disposition")


def create_console(
    parts: ConsoleParts,
    routers: Sequence[APIRouter] = (),
    *,
    public: Sequence[str] = (),
) -> FastAPI:
    """Return the console's ASGI app with the routes of ``routers``.

    ``public``: routes with a secret of their own instead of an API key; they read their bodies when it is checked.
    """
    settings = parts.settings
    rates = RateLimits(parts.limits)
    app = FastAPI(
        title="Standgale console",
        version=API_VERSION,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=operation_id,
    )
    # It would redirect to http, also behind a proxy with TLS: then the client would send its key in clear.
    app.router.redirect_slashes = False
    # Starlette runs the middleware added last first: telemetry is outermost, so every response has its request id.
    app.add_middleware(BodyLimits, settings=settings, slots=parts.bodies, turns=DeviceTurns(), public=public)
    app.add_middleware(KeyMiddleware, verifier=rates.verifier(parts.keys), public=(*PUBLIC, *public))
    app.add_middleware(RateMiddleware, rates=rates)
    app.add_middleware(ErrorMiddleware, refused=REQUESTS_REFUSED)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=[*_ALLOWED_HEADERS, REQUEST_ID_HEADER],
            allow_credentials="*" not in settings.cors_origins,
            expose_headers=_EXPOSED_HEADERS,
        )
    app.add_middleware(VersionMiddleware)
    app.add_middleware(HttpTelemetry)
    app.add_exception_handler(HTTPException, http_exception_response)
    app.add_exception_handler(RequestValidationError, validation_response)
    for router in routers:
        app.include_router(router)
    add_operations(app, parts.health)
    add_pages(app)
    add_error_pages(app, CONSOLE_CODES)
    _add_document(app, public_paths((*PUBLIC, *public)))
    return app


def _add_document(app: FastAPI, is_public: Callable[[str], bool]) -> None:
    """Make the OpenAPI document once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            complete(schema, is_public)
            app.openapi_schema = schema
        return app.openapi_schema

    async def document(_: Request) -> Response:
        if "document" not in written:
            written["document"] = orjson.dumps(openapi())
        return Response(written["document"], media_type="application/json")

    written: dict[str, bytes] = {}
    app.router.routes.insert(0, Route(app.openapi_url or "/openapi.json", document))
    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
