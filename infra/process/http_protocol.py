"""Limits what one connection may cost: the size, number and time of headers, requests in advance, and slow readers.

uvicorn's protocol has a time limit between two requests only. A client could send headers, trailers or chunk extensions
for ever, open connections that send nothing, or read nothing of a response; each would keep memory and a connection.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from infra.process.blocked_writes import BlockedWrites
from infra.process.direct_writes import direct_writes
from infra.process.error_body import error_response
from infra.process.http_connections import ConnectionTable, address_of
from infra.process.http_settings import HttpSettings
from infra.process.joined_head import JoinedHead
from infra.process.metrics import HTTP_REFUSED
from infra.process.websocket_protocol import BoundedWebSocket
from infra.telemetry.sampled_log import SampledLog

logger = logging.getLogger(__name__)

# Requests that a client sent before it had the response to the one before.
_MAX_AHEAD = 8
# A body in chunks of fewer bytes on average than this costs more time than its size; short bodies may be so.
_MIN_CHUNK_BYTES = 64
_FREE_CHUNKS = 1_000
# After an error the client gets this long to read it, and may still send this much; more would be reset at once.
_LINGER_S = 2.0
_LINGER_BYTES = 1 << 20
# A client that has ended its side, and has no response yet, is asked so often whether it is still there.
_PROBE_S = 1.0
_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
# How long a body that nobody reads may continue after the response.
_DISCARD_S = 5.0


class RefusedError(Exception):
    """Ends the parsing of a request: its limits are exceeded."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ProtocolConfig(uvicorn.Config):
    """Adds to uvicorn's settings the limits, and the table of connections, of one server."""

    limits: HttpSettings
    table: ConnectionTable
    log: SampledLog


class BoundedProtocol(BlockedWrites, HttpToolsProtocol):
    """Is one connection of a server, with limits; :meth:`sweep` enforces those of time."""

    def __init__(
        self,
        config: ProtocolConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.access_log = False
        self.address = ""
        self._limits = config.limits
        self._table = config.table
        self._log = config.log
        # Bytes since the parser last got on: the end of a head, a piece of a body, the end of a message.
        self._stalled_bytes = 0
        self._progress = False
        self._header_count = 0
        self._header_bytes = 0
        self._body_bytes = 0
        self._body_chunks = 0
        self._in_head = True
        self._in_message = False
        self._refusal: RefusedError | None = None
        self._waiting_since: float | None = None
        self._unread_since: float | None = None
        self._ending_since: float | None = None
        self._lingering_bytes = 0
        self._half_closed = False
        self._probe_at = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, or refuse it when there are too many."""
        super().connection_made(transport)
        self._joined = JoinedHead(transport, self.loop)
        self.address = address_of(self.client)
        self._waiting_since = time.monotonic()
        if not self._table.admit(self):
            message = (
                f"{len(self._table)} connections are open; at most {self._table.most} are, and "
                f"{self._table.most_of_address} of one address (http.max_connections, http.address_share)"
            )
            self._refuse(RefusedError(503, "TOO_MANY_CONNECTIONS", message))

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting the connection, and tell the app."""
        self._table.remove(self)
        if isinstance(exc, TimeoutError):
            self._count("not_reading")
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse ``data``, unless the connection is ending."""
        if self._ending_since is not None or self.transport.is_closing():
            self._lingering_bytes += len(data)
            if self._lingering_bytes > _LINGER_BYTES:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        if self._waiting_since is None and not self._in_message and self._is_done():
            self._waiting_since = time.monotonic()
        self._progress = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._progress = True
            if self._should_upgrade():
                self._upgrade_to_websocket(data[upgrade.args[0] :])
                return
            # Served as an ordinary request: a server may ignore the wish for another protocol.
        except httptools.HttpParserError as error:
            # A callback that refused keeps the reason; others are errors of the syntax.
            self._refuse(self._refusal or RefusedError(400, "BAD_REQUEST", f"this is no valid HTTP request: {error}"))
            return
        self._stalled_bytes = 0 if self._progress else self._stalled_bytes + len(data)
        if self._stalled_bytes > self._limits.max_header_bytes:
            self._refuse(self._too_large("more than that was received"))

    def _upgrade_to_websocket(self, early: bytes) -> None:
        """Give the connection to the protocol of WebSockets; ``early``: what came before the handshake ended."""
        websocket_class = self.ws_protocol_class
        if early or self.pipeline or not self._is_done():
            self._refuse(RefusedError(400, "BAD_REQUEST", "nothing may be sent during the handshake of a WebSocket"))
            return
        head = [self.scope["method"].encode(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.scope["headers"]:
            head += [name, b": ", value, b"\r\n"]
        head.append(b"\r\n")
        assert websocket_class is not None and issubclass(websocket_class, BoundedWebSocket)
        websocket = websocket_class(self.config, self.server_state, self.app_state)
        if not websocket.upgrade(self.transport, b"".join(head)):
            self.connections.discard(websocket)
            self._refuse(RefusedError(400, "BAD_REQUEST", "this is no valid handshake of a WebSocket"))
            return
        self.connections.discard(self)
        self._table.hand_over(self, websocket)
        self.transport.set_protocol(websocket)

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn closes always
        """Keep the connection for the responses to whole requests, as of `nc -N`; else close it.

        One whose response has begun is closed, too: a client that leaves a live stream ends its side as well. A client
        that is gone has ended its side like one that waits; :meth:`sweep` finds out which it is.
        """
        waits = not self._is_done() and not self.cycle.response_started and not self._in_message
        self._half_closed = waits and self._ending_since is None and self.transport.can_write_eof()
        self._probe_at = time.monotonic() + _PROBE_S
        return self._half_closed

    def on_message_begin(self) -> None:
        """Begin to count a request."""
        super().on_message_begin()
        self._in_head = self._in_message = True
        self._header_count = self._header_bytes = 0
        self._body_bytes = self._body_chunks = 0
        self.scope["extensions"] = direct_writes(self.write_piece)  # type: ignore[typeddict-item]

    def write_piece(self, piece: bytes) -> bool:
        """Write a piece of the response in progress; see :mod:`infra.process.direct_writes`."""
        cycle = self.cycle
        if self.flow.write_paused or cycle is None or cycle.disconnected or cycle.response_complete:
            return False
        if not cycle.chunked_encoding or self._ending_since is not None or self.transport.is_closing():
            return False
        self._joined.write(piece)
        return True

    def on_url(self, url: bytes) -> None:
        """Take a piece of the address."""
        super().on_url(url)
        if len(self.url) > self._limits.max_header_bytes:
            self._stop(self._too_large("its address alone is longer"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header; those behind the body (trailers) count too, but no app sees them."""
        self._header_count += 1
        self._header_bytes += len(name) + len(value)
        if self._header_count > self._limits.max_headers:
            most = self._limits.max_headers
            text = f"the request has more than {most} headers; at most {most} are accepted (http.max_headers)"
            self._stop(RefusedError(431, "HEADERS_TOO_LARGE", text))
        if self._header_bytes > self._limits.max_header_bytes:
            self._stop(self._too_large(f"{self._header_bytes} bytes were received"))
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request, or let it wait for the one before it."""
        if len(self.pipeline) >= _MAX_AHEAD:
            text = f"more than {_MAX_AHEAD} requests were sent before the response to the first one"
            self._stop(RefusedError(400, "TOO_MANY_REQUESTS_AHEAD", text))
        self._in_head = False
        self._progress = True
        self._waiting_since = None
        self._table.set_busy(self)
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            # It has all that a response uses of a transport.
            self.cycle.transport = cast(asyncio.Transport, self._joined)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._progress = True
        self._body_chunks += 1
        self._body_bytes += len(body)
        if self._body_chunks > _FREE_CHUNKS + self._body_bytes // _MIN_CHUNK_BYTES:
            text = f"the body comes in chunks of fewer than {_MIN_CHUNK_BYTES} bytes; send it in larger ones"
            self._stop(RefusedError(400, "CHUNKS_TOO_SMALL", text))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request's body."""
        self._progress = True
        self._in_message = False
        self._unread_since = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the end of a body that nobody reads."""
        self._joined.flush()
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self._half_closed and not self.pipeline and self._is_done():
            self._close()
        elif self._in_message and not self._in_head:
            self._unread_since = time.monotonic()
        elif not self.pipeline and self._is_done():
            self._table.set_idle(self)

    def make_room(self) -> None:
        """Close the connection, which has no request, for another client."""
        self._close()

    def sweep(self, now: float) -> None:
        """End the connection if it has exceeded a limit of time; called about once a second."""
        limits = self._limits
        if self._ending_since is not None or self.transport.is_closing():
            # What was written may never be read: then closing alone would wait for ever.
            self._ending_since = self._ending_since or now
            if now - self._ending_since > _LINGER_S:
                self.transport.abort()
        elif self._waiting_since is not None and now - self._waiting_since > limits.header_timeout_s:
            text = (
                f"the head of a request was not complete within {limits.header_timeout_s:g} s (http.header_timeout_s)"
            )
            self._refuse(RefusedError(408, "HEADER_TIMEOUT", text))
        elif self._unread_since is not None and now - self._unread_since > _DISCARD_S:
            self._count("body_not_ended")
            self._close()
        elif self._is_blocked(now):
            self._count("not_reading")
            self.transport.abort()
        elif self._half_closed and now >= self._probe_at:
            self._probe(now)

    def _probe(self, now: float) -> None:
        """Send an interim response, which a client that waits skips; the system of one that is gone refuses it."""
        self._probe_at = now + _PROBE_S
        if not self._is_done() and not self.cycle.response_started and self.parser.get_http_version() == "1.1":
            self.transport.write(_INTERIM)

    def _is_blocked(self, now: float) -> bool:
        """Whether the client has taken nothing of what waits for it for too long."""
        if self._blocked_since is None and self._is_done() and self.transport.get_write_buffer_size() > 0:
            self._blocked_since = now
        return self._blocked_since is not None and now - self._blocked_since > self._limits.write_timeout_s

    def _is_done(self) -> bool:
        """Whether no response is in progress."""
        return self.cycle is None or self.cycle.response_complete

    def _too_large(self, found: str) -> RefusedError:
        most = self._limits.max_header_bytes
        text = f"the head of the request may have {most} bytes (http.max_header_bytes); {found}"
        return RefusedError(431, "HEADERS_TOO_LARGE", text)

    def _stop(self, refusal: RefusedError) -> None:
        """End the parser, from one of its callbacks."""
        self._refusal = refusal
        raise refusal

    def _refuse(self, refusal: RefusedError) -> None:
        """Send ``refusal`` unless another response has begun, and end the connection; log and count it."""
        server = self._table.server
        self._count(refusal.code.lower())
        self._log.log(
            logging.INFO,
            f"{server}: {refusal.code}",
            "%s refused a request from %s: %s",
            server,
            self.address or "an unknown address",
            refusal,
            extra={"code": refusal.code, "status": refusal.status},
        )
        self._unset_keepalive_if_required()
        began = False
        if not self._is_done():
            began = self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if began or self.pipeline:
            self.pipeline.clear()
            self._close()
            return
        self.transport.write(error_response(refusal.status, refusal.code, str(refusal)))
        self._ending_since = time.monotonic()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _count(self, reason: str) -> None:
        HTTP_REFUSED.labels(self._table.server, reason).inc()

    def _close(self) -> None:
        self._ending_since = time.monotonic()
        self.transport.close()
