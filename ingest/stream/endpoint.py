"""Serves WS /api/v1/stream: checks the handshake, and leaves the rest to a connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.types import Receive, Scope, Send

from infra.auth.port import Verifier
from infra.http_api.errors.api_errors import ApiError, OverloadedError
from infra.http_api.limits.slots import UploadSlots
from infra.process.websocket_flow import FLOW_EXTENSION
from infra.telemetry.logs import bind
from infra.telemetry.sampled_log import SampledLog
from ingest.acceptance.acceptance import Acceptance
from ingest.acceptance.device_token import token_of
from ingest.acceptance.errors import ForbiddenError
from ingest.settings import GatewaySettings
from ingest.stream.closing import KNOWN_CODES, CloseCode
from ingest.stream.connection import StreamConnection
from ingest.stream.metrics import CLOSED
from ingest.stream.streams import Streams
from schemas.frame_messages import SUBPROTOCOL

logger = logging.getLogger(__name__)


class UpgradeRequiredError(ApiError):
    """The request is no handshake of a WebSocket."""

    code = "UPGRADE_REQUIRED"
    status = 426


class StreamEndpoint:
    """Is the endpoint as a plain ASGI app, for the handshake and for requests that are none."""

    def __init__(
        self,
        acceptance: Acceptance,
        verifier: Verifier,
        slots: UploadSlots,
        settings: GatewaySettings,
        streams: Streams,
    ) -> None:
        """``verifier`` checks tokens of open connections, again and again; it counts nothing."""
        self._verifier = verifier
        self._acceptance = acceptance
        self._slots = slots
        self._settings = settings
        self._streams = streams
        self._log = SampledLog(logger)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client; the error middleware responds to a handshake that is refused. Raises a StandgaleError."""
        if scope["type"] == "http":
            raise UpgradeRequiredError(
                "this address is for WebSockets",
                details=f"Connect with a WebSocket library, and the subprotocol {SUBPROTOCOL}.",
                headers={"Upgrade": "websocket"},
            )
        await receive()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        token = token_of(headers)
        self._check(scope, headers)
        device_id = self._acceptance.authenticate(token) if token else None
        connection = StreamConnection(
            self._acceptance,
            self._verifier,
            self._slots,
            self._settings,
            self._streams.settings,
            self._streams.sessions,
            self._streams.recent,
            self._streams.places,
        )
        self._streams.add(connection, is_known=device_id is not None)
        try:
            code = await self._serve(connection, scope, receive, send, token, device_id)
            CLOSED.labels(str(code) if code in KNOWN_CODES else "other").inc()
        finally:
            self._streams.remove(connection)

    async def _serve(
        self,
        connection: StreamConnection,
        scope: Scope,
        receive: Receive,
        send: Send,
        token: str,
        device_id: str | None,
    ) -> int:
        with bind(request_id=f"stream-{id(connection):x}"):
            try:
                code = await connection.serve(receive, send, scope["extensions"][FLOW_EXTENSION], token, device_id)
            except asyncio.CancelledError:
                # The server's time to stop is over.
                raise
            except Exception as error:  # noqa: BLE001 (logged; the client connects again)
                code = int(CloseCode.INTERNAL_ERROR)
                kind = type(error).__name__
                self._log.log(logging.ERROR, kind, "a stream ended because of an error in the gateway", error=error)
                await send({"type": "websocket.close", "code": code, "reason": "an error in the gateway"})
            if code not in (CloseCode.FINISHED, CloseCode.RESTARTING):
                self._log.log(logging.INFO, f"closed {code}", "a stream was closed with code %d", code)
        return code

    def _check(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Raise a StandgaleError when the connection must not be opened."""
        self._require_origin(headers)
        if SUBPROTOCOL not in scope["subprotocols"]:
            raise ApiError(
                f"the client does not offer the subprotocol {SUBPROTOCOL}",
                details="Give it to the WebSocket library; other versions of the protocol are not known here.",
                field="Sec-WebSocket-Protocol",
            )
        if self._streams.is_stopping:
            raise OverloadedError("the gateway stops or restarts", details="Connect again after Retry-After seconds.")
        if not self._streams.places.has_room:
            most = self._streams.places.most
            raise OverloadedError(
                f"{most} streams are open; at most {most} are accepted (stream.max_connections)",
                details="Connect again after Retry-After seconds.",
            )

    def _require_origin(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse the pages of other sites, as CORS does for requests: browsers do not ask before a WebSocket."""
        origin = headers.get(b"origin", b"").decode("latin-1")
        if not origin:
            return
        allowed = self._settings.cors_origins
        own = urlsplit(origin).netloc == headers.get(b"host", b"").decode("latin-1")
        if not own and origin not in allowed and "*" not in allowed:
            raise ForbiddenError(
                f"pages of {origin[:200]!r} may not send frames",
                details="An operator can allow them with gateway.cors_origins.",
                field="Origin",
            )
