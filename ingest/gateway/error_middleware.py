"""The middleware around every endpoint: errors become answers, and a body nobody read ends the connection."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.failure.error_texts import error_code
from ingest.gateway.errors import error_response, internal_error_response, request_id_of, unavailable_response
from ingest.metrics import FRAMES_REJECTED
from schemas.errors import StandgaleError

logger = logging.getLogger(__name__)

API_VERSION = "1.0"

_ARRIVAL_S = 0.5
_DISCARD_S = 5.0
# Nobody known sends it, or too slowly already.
_NOT_READ_ON = (401, 408)


class ErrorMiddleware:
    """Wraps an ASGI app; sits inside the telemetry middleware, which gives each request its id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; anything but HTTP passes unchanged."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _RequestState(scope, receive, send)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except StandgaleError as error:
            FRAMES_REJECTED.labels(error.code).inc()
            logger.info("refused %s: %s", scope["path"], error, extra={"code": error.code})
            response = error_response(error, request_id_of(scope))
        except OSError as error:
            # Disk, connection, time-out: never the frame's fault, whatever layer let it through.
            code = error_code(error)
            FRAMES_REJECTED.labels(code).inc()
            logger.exception("a request to %s failed by a fault of the system", scope["path"])
            response = unavailable_response(code, request_id_of(scope))
        except Exception:
            logger.exception("a request to %s failed by a fault of the gateway", scope["path"])
            response = internal_error_response(request_id_of(scope))
        else:
            return
        if not exchange.response_began:
            await response(scope, exchange.receive, exchange.send)


class _RequestState:
    """Watches one request and its answer, and ends the connection in order when the answer came before the body's end.

    Closing at once would reset the connection under a client that is still sending, and could destroy the answer on its
    way. So the rest of the body is thrown away for a while; but that of a client without a token, or of one that is too
    slow, is not, and the answer is only given time to arrive.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        headers: dict[bytes, bytes] = dict(scope["headers"])
        self._unread = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        # Such a client sends nothing until it is told to, which nobody did before the first receive.
        self._waits = headers.get(b"expect", b"").lower() == b"100-continue"
        self._closing = False
        self._status = 0

    @property
    def response_began(self) -> bool:
        """Whether an answer has begun."""
        return self._status != 0

    async def receive(self) -> Message:
        self._waits = False
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._closing = self._unread
            headers = [*message.get("headers", ()), (b"x-api-version", API_VERSION.encode())]
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
        with suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_S):
                while self._unread:
                    await self.receive()
