"""Counts each request by address before anything of it is read, and keeps what is left for its response."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from infra.http_api.limits.rates import RateLimits, RateState, rate_headers
from infra.process.http_connections import address_of

UNLIMITED = frozenset({"/api/v1/health", "/api/v1/metrics"})
"""A balancer, or Prometheus, must get its answer also from an address that asks too often."""

_STATES = "rates"


class RateMiddleware:
    """Wraps an ASGI app, inside the error middleware, which turns a refusal into a response.

    The rate of the client is counted when its token is verified, in the app.
    """

    def __init__(self, app: ASGIApp, rates: RateLimits) -> None:
        self._app = app
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or connection. Raises RateLimitError."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in UNLIMITED:
            await self._app(scope, receive, send)
            return
        with self._rates.request_of(address_of(scope.get("client"))) as request:
            # Kept for the response, which may also be that to an error.
            scope.setdefault("state", {})[_STATES] = request.states
            request.count()
            await self._app(scope, receive, send)


def rate_fields(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the headers of the response to a request that was counted."""
    states: list[RateState] = scope.get("state", {}).get(_STATES, [])
    return [(name.lower().encode(), value.encode()) for name, value in rate_headers(states).items()]
