"""Finds out who calls before anything of a body is read, and keeps it for the endpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.auth.bearer import bearer_token
from infra.auth.port import Verifier
from infra.auth.scopes import DeviceScope
from infra.http_api.errors.api_errors import UnauthorizedError
from infra.process.http_connections import address_of

_CALLER = "caller"
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="standgale"'}

PUBLIC: Sequence[str] = (
    *("/docs", "/redoc", "/openapi.json", "/docs/assets/{name}"),
    *("/api/v1/health", "/api/v1/metrics", "/metrics", "/api/v1/errors", "/api/v1/errors/{code}"),
)
"""The routes that need no key."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Names the client that sent a valid API key."""

    client_id: str
    key: str = field(default="", repr=False, compare=False)
    """For :meth:`is_allowed`"""
    scope: DeviceScope | None = field(default=None, compare=False)
    """The devices whose frames the client may see; None: all"""

    def is_allowed(self, keys: Verifier) -> bool:
        """Whether the key is valid now, for responses that last long."""
        return keys.verify(self.key) is not None


async def caller_of(request: Request) -> Caller:
    """Return who sent the request; a dependency of the endpoints that need a key.

    It waits for nothing: the framework would run a plain function in a thread.
    """
    return caller_in(request)


def caller_in(request: Request) -> Caller:
    """Return who sent the request."""
    caller = request.scope.get("state", {}).get(_CALLER)
    if not isinstance(caller, Caller):
        raise RuntimeError(f"{request.url.path} is a route without a key, and asks who calls")
    return caller


def sender_of(scope: Scope) -> str:
    """Return the client that sent the request; on a route without a key its address."""
    caller = scope.get("state", {}).get(_CALLER)
    return caller.client_id if isinstance(caller, Caller) else address_of(scope.get("client"))


def key_of(headers: Mapping[bytes, bytes]) -> str:
    """Return the API key in ``headers``; "" without one.

    ``X-API-Key`` comes first, because the bearer token of a request about media is that of another service.
    """
    for name in (b"x-api-key", b"x-api-token"):
        key = headers.get(name, b"").decode("latin-1").strip()
        if key:
            return key
    return bearer_token(headers.get(b"authorization", b"").decode("latin-1"))


class KeyMiddleware:
    """Wraps an ASGI app: every request has the caller of its API key, but those of public routes.

    Routes with a secret of their own are public here, and check it themselves.
    """

    def __init__(
        self, app: ASGIApp, verifier: Verifier, public: Sequence[str] = PUBLIC, keys: Verifier | None = None
    ) -> None:
        """``keys`` verifies keys again while bodies are received; None: ``verifier``, which may count requests."""
        self._app = app
        self._verifier = verifier
        self._keys = keys or verifier
        self._is_public = public_paths(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request. Raises UnauthorizedError, and the errors of the verifier."""
        if scope["type"] == "http" and not self._is_public(scope["path"]):
            caller = self._caller(key_of(dict(scope["headers"])))
            scope.setdefault("state", {})[_CALLER] = caller
            receive = _AllowedPieces(receive, caller, self._keys)
        await self._app(scope, receive, send)

    def _caller(self, key: str) -> Caller:
        if not key:
            raise UnauthorizedError(
                "no API key",
                details="Send it as X-API-Key, or as Authorization: Bearer; the operator makes one with `standgale key "
                "add NAME`.",
                headers=_CHALLENGE,
            )
        found = self._verifier.verify(key)
        if found is None and key.startswith("stg_"):
            raise UnauthorizedError(
                "the API key is a device token; the API of jobs takes API keys",
                details="The operator makes one with `standgale key add NAME`.",
                headers=_CHALLENGE,
            )
        if found is None:
            raise UnauthorizedError(
                "the API key is not valid",
                details="It is unknown, revoked or expired; the operator makes one with `standgale key add NAME`.",
                headers=_CHALLENGE,
            )
        return Caller(found.holder_id, key, found.scope)


class _AllowedPieces:
    """Gives the pieces of a body while the key of its request is valid: an upload may take minutes."""

    def __init__(self, receive: Receive, caller: Caller, keys: Verifier) -> None:
        self._receive = receive
        self._caller = caller
        self._keys = keys

    async def __call__(self) -> Message:
        """Return the next message. Raises UnauthorizedError."""
        message = await self._receive()
        if message["type"] == "http.request" and not self._caller.is_allowed(self._keys):
            raise UnauthorizedError(
                "the API key was revoked, or has expired, while the request was received",
                details="Nothing of it was kept. The operator makes a key with `standgale key add NAME`.",
                headers=_CHALLENGE,
            )
        return message


def public_paths(public: Sequence[str]) -> Callable[[str], bool]:
    """Return whether a path is one of the routes ``public``."""
    pattern = re.compile("|".join(_pattern(path) for path in public))
    return lambda path: pattern.fullmatch(path) is not None


def _pattern(path: str) -> str:
    """Return the regular expression of a route's path: ``{name}`` is any one segment."""
    return "".join("[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{[^}]*\})", path))
