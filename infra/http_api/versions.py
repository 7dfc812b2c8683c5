"""Says on every response which version of the API it has, and which parts of it will end.

An API marks a route or a field once: responses get the headers, and the OpenAPI document the mark.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import format_datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.http_api.limits.rate_middleware import rate_fields
from infra.telemetry.http import endpoint_of

API_VERSION = "1.0"
_FIELDS = "fields"
_STARTS = ("http.response.start", "websocket.accept", "websocket.http.response.start")


@dataclass(frozen=True, slots=True)
class Deprecation:
    """Marks a route, or one field of it, that is to be used no longer."""

    method: str
    path: str
    """As the route has it: /api/v1/flights/{flight}"""
    since: date
    link: str
    """The page that says what to use instead"""
    ends: date | None = None
    """When it will not be there any more"""
    field: str | None = None
    """The parameter; None: the whole route"""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers: Deprecation (RFC 9745), Sunset (RFC 8594), and where to read more."""
        found = [
            (b"deprecation", f"@{int(_midnight(self.since).timestamp())}".encode()),
            (b"link", f'<{self.link}>; rel="deprecation"; type="text/html"'.encode()),
        ]
        if self.ends is not None:
            found.append((b"sunset", format_datetime(_midnight(self.ends), usegmt=True).encode()))
        return found


def note_fields(scope: Scope, pairs: Iterable[tuple[str, str]]) -> None:
    """Keep which fields a request has, so that the use of a deprecated one can be said."""
    scope.setdefault("state", {}).setdefault(_FIELDS, set()).update(name for name, _ in pairs)


class VersionMiddleware:
    """Wraps an ASGI app, outside of CORS and errors: every response has its version, and what is left of a rate."""

    def __init__(self, app: ASGIApp, deprecated: Sequence[Deprecation] = ()) -> None:
        self._app = app
        self._by_path: dict[str, list[Deprecation]] = {}
        for one in deprecated:
            self._by_path.setdefault(one.path, []).append(one)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or one handshake of a WebSocket."""

        async def send_with_version(message: Message) -> None:
            if message["type"] in _STARTS:
                headers = [*message.get("headers", ()), (b"x-api-version", API_VERSION.encode())]
                headers += [*self._marks(scope), *rate_fields(scope)]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_with_version)

    def _marks(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """Return the headers of what the request uses; of several, those of the one that ends first."""
        if scope["type"] != "http":
            return []
        marked = self._by_path.get(endpoint_of(scope), []) if self._by_path else []
        fields: Collection[str] = scope.get("state", {}).get(_FIELDS, ())
        used = [one for one in marked if one.method == scope["method"] and (one.field is None or one.field in fields)]
        return min(used, key=lambda one: (one.ends or date.max, one.since)).headers() if used else []


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
