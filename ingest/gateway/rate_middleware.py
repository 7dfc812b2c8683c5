"""Counts each request by address before anything of it is read, and tells the client what is left."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.process.http_connections import address_of
from ingest.limits.rates import RateLimits, RateState, rate_headers

UNLIMITED = frozenset({"/api/v1/health", "/api/v1/metrics"})
"""A balancer, or Prometheus, must get its answer also from an address that asks too often."""


class RateMiddleware:
    """Wraps an ASGI app, inside the error middleware, which turns a refusal into a response.

    The rate of the device is counted when its token is verified, in the app.
    """

    def __init__(self, app: ASGIApp, rates: RateLimits) -> None:
        self._app = app
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or connection. Raises RateLimitError."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in UNLIMITED:
            await self._app(scope, receive, send)
            return
        with self._rates.request_of(address_of(scope.get("client"))) as states:
            await self._app(scope, receive, _with_headers(send, states))


def _with_headers(send: Send, states: list[RateState]) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start" and states:
            added = [(name.lower().encode(), value.encode()) for name, value in rate_headers(states).items()]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return send_with_headers
