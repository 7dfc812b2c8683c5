"""Looks up tokens that were made a moment ago, before a request's token is verified."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from infra.auth.bearer import bearer_token
from infra.auth.port import Verifier
from infra.http_api.limits.rates import RateLimits

_HEADERS = (b"x-api-key", b"x-api-token")
_AUTHORIZATION = b"authorization"


class NewTokens:
    """Wraps an ASGI app, inside the middleware of rates: an address that has sent too many wrong tokens waits for none.

    Verifying does not wait for a database, so a token that is not in its list is looked up here.
    """

    def __init__(self, app: ASGIApp, verifier: Verifier, rates: RateLimits) -> None:
        self._app = app
        self._verifier = verifier
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or connection."""
        if scope["type"] in ("http", "websocket") and self._rates.allow_new_token():
            for name, value in scope["headers"]:
                if name in _HEADERS:
                    await self._verifier.look_up(value.decode("latin-1").strip())
                elif name == _AUTHORIZATION:
                    await self._verifier.look_up(bearer_token(value.decode("latin-1")))
        await self._app(scope, receive, send)
