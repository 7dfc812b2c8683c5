"""Turns the errors of all endpoints into responses, and closes a connection whose body was not read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from prometheus_client import Counter
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.failure.error_texts import error_code
from infra.http_api.errors.responses import no_websocket_response, request_id_of, text_response
from infra.http_api.errors.texts import INTERNAL_ERROR, ErrorText, describe_error
from infra.http_api.limits.turns import Turns
from infra.telemetry.http import note_failure
from schemas.errors import StandgaleError

_ARRIVAL_S = 0.5
_DISCARD_S = 5.0
_DISCARDING = "refused uploads"
# A busy service reads on no more than this: the client of a large body may lose the response, and tries again anyway.
_DISCARD_BUSY_BYTES = 1 << 20
# But it takes its time for that: with a hundred clients at once, their turns come round slowly.
_DISCARD_BUSY_S = 20.0
# Clients without a valid token, and those that are too slow.
_NOT_READ_ON = (401, 408)
# With this the framework closes a handshake for which no route is there.
_NO_ROUTE = 1000
# A service that is busy, or a client that asks too often.
_BUSY = (429, 503)

Describe = Callable[[Exception, str], ErrorText]
"""Returns the text of an error, given the id of its request."""


class ErrorMiddleware:
    """Wraps an ASGI app, inside the telemetry middleware, which gives each request its id."""

    def __init__(
        self, app: ASGIApp, refused: Counter, describe: Describe = describe_error, websockets: str | None = None
    ) -> None:
        """``refused`` counts requests that failed, by the code of their error; ``describe`` makes their texts.

        ``websockets``: a sentence about where WebSockets are, for a handshake at another path.
        """
        self._app = app
        self._refused = refused
        self._describe = describe
        self._websockets = websockets
        self._turns = Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or one handshake of a WebSocket."""
        if scope["type"] == "websocket":
            await self._shake_hands(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _RequestState(scope, receive, send, self._turns)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except StandgaleError as error:
            self._refused.labels(error.code).inc()
            note_failure(scope, error.code, str(error))
            response = self._response(scope, error)
        except OSError as error:
            # Disk, connection, time limit: never caused by the request, from any layer.
            code = error_code(error)
            self._refused.labels(code).inc()
            note_failure(scope, code, "the request failed because of the system", error)
            response = self._response(scope, error)
        except Exception as error:  # noqa: BLE001 (logged with its traceback by the telemetry, and answered with 500)
            note_failure(scope, INTERNAL_ERROR, "the request failed because of an error in the service", error)
            response = self._response(scope, error)
        else:
            return
        if not exchange.response_began:
            await response(scope, exchange.receive, exchange.send)

    async def _shake_hands(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Turn an error before the connection is open into a response; later ones are the app's own."""
        began = False

        async def noting(message: Message) -> None:
            nonlocal began
            if not began and message["type"] == "websocket.close" and message.get("code") == _NO_ROUTE:
                # Of this the server would make 403, and clients would look at their token.
                response = no_websocket_response(scope["path"], request_id_of(scope), self._websockets)
                began = True
                await response(scope, receive, send)
                return
            began = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except StandgaleError as error:
            if began:
                raise
            self._refused.labels(error.code).inc()
            response = self._response(scope, error)
            await response(scope, receive, send)

    def _response(self, scope: Scope, error: Exception) -> Response:
        request_id = request_id_of(scope)
        return text_response(self._describe(error, request_id), request_id)


class _RequestState:
    """Follows one request and its response, and closes the connection properly when the body was not read.

    Closing at once would reset the connection of a client that is still sending, which could then lose the response. So
    the rest of the body is read and discarded for some seconds; a busy service reads only its beginning. The body of a
    client without a token, or of one that is too slow, is not read; the response only gets some time to arrive.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, turns: Turns) -> None:
        self._turns = turns
        self._receive = receive
        self._send = send
        headers: dict[bytes, bytes] = dict(scope["headers"])
        self._unread = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        # Such a client sends no body before "100 Continue", which the server sends at the first receive.
        self._waits = headers.get(b"expect", b"").lower() == b"100-continue"
        self._closing = False
        self._received = 0
        self._status = 0

    @property
    def response_began(self) -> bool:
        """Whether a response has begun."""
        return self._status != 0

    async def receive(self) -> Message:
        self._waits = False
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._closing = self._unread
            headers = list(message.get("headers", ()))
            if self._closing:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        elif self._closing and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._discard_rest()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _discard_rest(self) -> None:
        if self._waits:
            return
        if self._status in _NOT_READ_ON:
            await asyncio.sleep(_ARRIVAL_S)
            return
        busy = self._status in _BUSY
        with suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_BUSY_S if busy else _DISCARD_S):
                # What is here already is taken at once: most refused bodies are small, and many clients are gone.
                await self.receive()
                while self._unread and not (busy and self._received > _DISCARD_BUSY_BYTES):
                    # All refused uploads together read one piece in a round of the event loop.
                    await self._turns.wait(_DISCARDING)
                    await self.receive()
