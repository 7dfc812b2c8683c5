"""Builds the console's app from the routes of its rooms, middleware, and the handlers of the framework's errors."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from console.http.bodies import BodyLimits
from console.http.callers import PUBLIC, KeyMiddleware, public_paths
from console.http.direct_route import direct_routes
from console.http.document import complete, operation_id
from console.http.error_codes import CONSOLE_CODES
from console.http.error_texts import describe_error_of_picture
from console.http.query_names import KnownQueries, require_known_query
from console.metrics import REQUESTS_REFUSED
from console.parts import ConsoleParts
from infra.http_api.direct_routes import DirectRouting
from infra.http_api.error_middleware import ErrorMiddleware
from infra.http_api.errors.pages import add_error_pages
from infra.http_api.errors.responses import http_exception_response, validation_response
from infra.http_api.limits.new_tokens import NewTokens
from infra.http_api.limits.rate_middleware import RateMiddleware
from infra.http_api.limits.rates import RateLimits
from infra.http_api.limits.turns import Turns
from infra.http_api.openapi import serve_document
from infra.http_api.operation_routes import add_operations
from infra.http_api.pages import add_pages
from infra.http_api.versions import API_VERSION, VersionMiddleware
from infra.telemetry.http import REQUEST_ID_HEADER, HttpTelemetry

_DESCRIPTION = """\
Takes pictures from people and their programs, finds things in them as a job, and gives back boxes, label files and
drawn pictures. Every request has an API key, as `X-API-Key` or as a bearer token.

Every error has one body; its code is stable, and `documentation_url` leads to what it means and what to do about it.
"""
# The last two are of media: a token for another service, and where a stream goes on.
_ALLOWED_HEADERS = (
    *("Authorization", "Content-Type", "X-API-Key", "X-API-Token", "Idempotency-Key"),
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
    app.add_middleware(DirectRouting, routes=direct_routes(routers))
    app.add_middleware(BodyLimits, settings=settings, slots=parts.bodies, turns=Turns(), public=public)
    app.add_middleware(KeyMiddleware, verifier=rates.verifier(parts.keys), public=(*PUBLIC, *public), keys=parts.keys)
    app.add_middleware(NewTokens, verifier=parts.keys, rates=rates)
    app.add_middleware(RateMiddleware, rates=rates)
    app.add_middleware(ErrorMiddleware, refused=REQUESTS_REFUSED, describe=describe_error_of_picture)
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
    app.state.queries = KnownQueries(routers)
    for router in routers:
        app.include_router(router, dependencies=[Depends(require_known_query)])
    add_operations(app, parts.health)
    add_pages(app)
    add_error_pages(app, CONSOLE_CODES)
    is_public = public_paths((*PUBLIC, *public))
    serve_document(app, lambda schema: complete(schema, is_public))
    return app
