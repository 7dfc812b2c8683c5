"""Serves `POST /api/v1/detections/stream/tokens`: gives a client with an API key a token for the address of a page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from infra.auth.scopes import MAX_PATTERNS, DeviceScope, ScopeError
from infra.errors import TransientError
from schemas.timestamps import format_utc
from sinks.sse.access.access import StreamAccess, Subscriber, UnauthorizedError, key_in
from sinks.sse.access.stream_tokens import StreamTokens
from sinks.sse.responses import CHALLENGE, error_answer, later_answer

_MOST_BYTES = 64 * 1024


class TokenRequest(BaseModel):
    """Is the body of a request for a token; it may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    devices: Annotated[tuple[str, ...], Field(min_length=1, max_length=MAX_PATTERNS)] | None = None
    """Ids of devices, or beginnings with a star; none: all that the key may see"""


class _BodyError(Exception):
    """The body is none that is taken."""


class TokenRoute:
    """Is the endpoint as an ASGI app."""

    def __init__(self, access: StreamAccess, tokens: StreamTokens, stream_path: str) -> None:
        self._access = access
        self._tokens = tokens
        self._stream_path = stream_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = await self._response(request)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _response(self, request: Request) -> Response:
        await self._access.look_up(request.headers)
        try:
            subscriber = self._access.of_key(key_in(request.headers))
        except UnauthorizedError:
            text = "an API key is required: send it as X-API-Key or as Authorization: Bearer"
            return error_answer(request, 401, UnauthorizedError.code, text, CHALLENGE)
        except TransientError as error:
            return later_answer(request, error)
        try:
            devices = await _devices(request)
        except _BodyError as error:
            return error_answer(request, 400, "VALIDATION_ERROR", str(error))
        hidden = _hidden(subscriber, devices)
        if hidden is not None:
            return error_answer(request, 403, "FORBIDDEN", f"the key may not see the device {hidden}")
        text, token = self._tokens.make(subscriber.key_id, devices)
        body = {
            "token": text,
            "expires_at": format_utc(datetime.fromtimestamp(token.until, UTC)),
            "devices": devices if devices is not None else _patterns(subscriber.key_scope),
            "stream_url": f"{self._stream_path}?token={text}",
        }
        return JSONResponse(body, status_code=201, headers={"Cache-Control": "no-store"})


async def _devices(request: Request) -> list[str] | None:
    """Return the devices that the body names; None without one. Raises _BodyError."""
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > _MOST_BYTES:
            raise _BodyError(f"the body has more than {_MOST_BYTES} bytes")
    if not data.strip():
        return None
    try:
        found = TokenRequest.model_validate(orjson.loads(data)).devices
        return None if found is None else list(DeviceScope.of(found).patterns)
    except orjson.JSONDecodeError as error:
        raise _BodyError(f"the body is no JSON: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        raise _BodyError(f'{place}: {first["msg"]}; the body is {{"devices": ["drone-1", "camp-*"]}}') from error
    except ScopeError as error:
        raise _BodyError(f"devices: {error}") from error


def _hidden(subscriber: Subscriber, devices: list[str] | None) -> str | None:
    """Return a device that is named in full and that the key may not see."""
    scope = subscriber.key_scope
    if scope is None or devices is None:
        return None
    return next((each for each in devices if not each.endswith("*") and not scope.holds(each)), None)


def _patterns(scope: DeviceScope | None) -> list[str] | None:
    return None if scope is None else list(scope.patterns)
