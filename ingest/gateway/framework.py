"""Puts the web framework inside of all middleware of the gateway, because most requests go past it."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from infra.http_api.errors.responses import request_id_of, text_response
from ingest.acceptance.error_texts import describe_frame_error

# The gateway has its own; the framework would look for a configuration at each request.
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}


class GatewayApp(FastAPI):
    """Is a FastAPI app whose own layers come after the middleware that was added to it."""

    def build_middleware_stack(self) -> ASGIApp:
        """Return the outermost layer."""
        added, self.user_middleware = self.user_middleware, []
        try:
            app = super().build_middleware_stack()
        finally:
            self.user_middleware = added
        for layer in reversed(added):
            app = layer.cls(app, *layer.args, **layer.kwargs)
        return app


async def unexpected_response(request: Request, error: Exception) -> Response:
    """Return the response to an error that an endpoint of the framework did not expect; it goes on to the log."""
    request_id = request_id_of(request.scope)
    return text_response(describe_frame_error(error, request_id), request_id)
