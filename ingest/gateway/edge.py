"""The middleware around every endpoint: errors become answers, and a body nobody read ends the connection."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.telemetry import metrics
from ingest.gateway.errors import error_response, internal_error_response, request_id_of
from schemas.errors import WindhoverError

log = logging.getLogger(__name__)

API_VERSION = "1.0"


class Edge:
    """Wraps an ASGI app; sits inside the telemetry middleware, which gives each request its id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; anything but HTTP passes unchanged."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except WindhoverError as error:
            metrics.FRAMES_REJECTED.labels(error.code).inc()
            log.info("refused %s: %s", scope["path"], error, extra={"code": error.code})
            response = error_response(error, request_id_of(scope))
        except Exception:
            log.exception("a request to %s failed by a fault of the gateway", scope["path"])
            response = internal_error_response(request_id_of(scope))
        else:
            return
        if not exchange.answered:
            await response(scope, exchange.receive, exchange.send)


class _Exchange:
    """Watches one request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._unread = any(
            (name == b"content-length" and value != b"0") or name == b"transfer-encoding"
            for name, value in scope["headers"]
        )
        self.answered = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.answered = True
            headers = [*message.get("headers", ()), (b"x-api-version", API_VERSION.encode())]
            if self._unread:
                # Otherwise the server would have to swallow the rest of a body that nobody wants.
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)
