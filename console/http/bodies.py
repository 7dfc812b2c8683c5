"""Receives JSON bodies whole before the framework sees them, within limits of size, time and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.http.callers import public_paths, sender_of
from console.settings import ConsoleSettings
from infra.http_api.errors.api_errors import ApiError
from infra.http_api.limits.slots import UploadSlots
from infra.http_api.limits.turns import Turns
from infra.http_api.request.body import BodyLimit, BodyTimeLimit, declared_length, read_body

_SETTING = "console.max_body_bytes"
_DETAILS = "Send less in one request."
_LONGEST_TYPE = 100


class BodyTooLargeError(ApiError):
    """A JSON body is larger than the limit; nothing of it was used."""

    code = "BODY_TOO_LARGE"
    status = 413


@dataclass(frozen=True, slots=True)
class JsonLimit(BodyLimit):
    """Limits a JSON body."""

    details: str = _DETAILS

    def exceeded(self, size: str) -> BodyTooLargeError:
        """Return the error for a body of ``size`` bytes (a number, or text)."""
        return BodyTooLargeError(
            f"the body is larger than {self.most_bytes} bytes ({self.reason})", details=self.details
        )


def body_time_limit(settings: ConsoleSettings) -> BodyTimeLimit:
    """Return within which time a JSON body is received."""
    return BodyTimeLimit(settings.body_timeout_s, "console.body_timeout_s")


class BodyLimits:
    """Wraps an ASGI app: what is not a form, or a picture, comes to it as one piece.

    Forms and pictures are read by their endpoints, which limit them; so are the bodies of routes without a key, once
    the endpoint knows who calls.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ConsoleSettings,
        slots: UploadSlots,
        turns: Turns,
        public: Sequence[str] = (),
    ) -> None:
        """``public``: the routes without a key."""
        self._app = app
        self._settings = settings
        self._slots = slots
        self._turns = turns
        self._is_public = public_paths(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request. Raises BodyTooLargeError, UploadTimeoutError, UploadIncompleteError, OverloadedError."""
        if scope["type"] != "http" or not _is_read_here(scope) or self._is_public(scope["path"]):
            await self._app(scope, receive, send)
            return
        limit, who = JsonLimit(self._settings.max_body_bytes, _SETTING, details=_hint(scope)), sender_of(scope)
        with self._slots.reserve(declared_length(dict(scope["headers"]), limit), who) as slot:
            with slot.reading():
                body = await read_body(receive, limit, body_time_limit(self._settings), self._turns, who)
            await self._app(scope, _Replay(body, receive), send)


class _Replay:
    """Gives a body that was received as one piece; then what the client does, such as a disconnect."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


def _content_type(scope: Scope) -> bytes:
    """Return the media type of the body, without its parameters."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


def _hint(scope: Scope) -> str:
    """Return what to do with a body that is too large: one that is no JSON is mostly a picture."""
    kind = _content_type(scope)
    if kind.endswith(b"json"):
        return _DETAILS
    return (
        f"The Content-Type is {kind.decode('latin-1')[:_LONGEST_TYPE]!r}. A picture is sent in a form (curl -F "
        "files=@a.jpg), or where one picture is taken, with its own Content-Type, such as image/jpeg."
    )


def _is_read_here(scope: Scope) -> bool:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers:
        return False
    return not _content_type(scope).startswith((b"multipart/", b"image/", b"video/", b"application/octet-stream"))
