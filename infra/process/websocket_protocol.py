"""Limits what one WebSocket may cost: the size and time of messages before they are in memory, and control frames.

uvicorn's protocol keeps whatever a client sends until a message is complete. Here the head of each frame is looked at
first: too long messages end the connection, and others wait, unread, until the app has memory for them. Compression is
off, so no message becomes larger than its frames say.
"""

from __future__ import annotations

import asyncio
import logging
import time
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.http11 import Request

from infra.process.blocked_writes import BlockedWrites
from infra.process.error_body import error_response
from infra.process.http_connections import ConnectionTable, address_of
from infra.process.http_settings import HttpSettings
from infra.process.metrics import HTTP_REFUSED
from infra.process.websocket_flow import FLOW_EXTENSION, MAX_REASON_BYTES, MessageGate, MessageLimits
from infra.process.websocket_heads import BINARY, CLOSE, Head, Heads

MAX_TEXT_BYTES = 16_384
"""The longest text message, and the longest message of any kind while no gate is set."""

_ASK_AGAIN_S = 0.02
_CLOSE_TIMEOUT_S = 5.0
# After a failure the client gets this long to read the close, and may still send this much; more would be reset at
# once, and the close lost with it.
_LINGER_S = 2.0
_LINGER_BYTES = 32 << 20
# Control frames beyond those that a second brings.
_CONTROL_BURST = 100
_CONTROL_PER_S = 20.0
# A message in frames of fewer bytes on average costs more time than its size; short messages may be so.
_MIN_FRAGMENT_BYTES = 64
_FREE_FRAGMENTS = 1_000
_NO_TEXT, _POLICY, _TOO_BIG = 1007, 1008, 1009

# uvicorn and websockets write a line for every connection.
_quiet = logging.getLogger("standgale.websocket")
_quiet.setLevel(logging.WARNING)


class BoundedWebSocket(BlockedWrites, WebSocketsSansIOProtocol):
    """Is one WebSocket of a server, with limits; :meth:`sweep` enforces those of time."""

    def __init__(
        self,
        config: Any,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = self.conn.logger = _quiet
        self.close_timeout = _CLOSE_TIMEOUT_S
        self.address = ""
        self._http: HttpSettings = config.limits
        self._table: ConnectionTable = config.table
        self._heads = Heads()
        self._gate: MessageGate | None = None
        self._limits: MessageLimits | None = None
        self._is_discarding = False
        self._message_bytes = self._fragments = 0
        self._in_message = False
        self._message_since: float | None = None
        self._held: bytes | None = None
        self._held_size: int | None = None
        self._held_since = 0.0
        self._asking: asyncio.TimerHandle | None = None
        self._control_credit = float(_CONTROL_BURST)
        self._control_at = 0.0
        self._received_at = self._pinged_at = time.monotonic()
        self._ending_since: float | None = None
        self._lingering_bytes = 0

    def upgrade(self, transport: asyncio.Transport, head: bytes) -> bool:
        """Take the connection over with the ``head`` of its request; False: it is no WebSocket handshake."""
        self.connection_made(transport)
        self.address = address_of(self.client)
        self.conn.receive_data(head)
        self.handle_events()
        if self.handshake_initiated and not transport.is_closing():
            transport.pause_reading()
        return self.handshake_initiated

    def handle_connect(self, event: Request) -> None:
        """Start the app, which finds the flow in its scope; another version of the protocol, say, gets an error."""
        response = self.conn.accept(event)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            self.handshake_initiated = self.handshake_complete = self.close_sent = True
            self.transport.write(_refusal(response.status_code, self.conn.handshake_exc))
            self.transport.close()
            return
        super().handle_connect(event)
        cast(dict[str, Any], self.scope["extensions"])[FLOW_EXTENSION] = self

    def set_gate(self, gate: MessageGate, limits: MessageLimits) -> None:
        """Ask ``gate`` before each binary message from now on."""
        self._gate, self._limits = gate, limits
        self.conn.max_message_size = limits.max_bytes

    def stop_reading(self) -> None:
        """Discard what the client sends from now on, up to its close."""
        self._is_discarding = True
        held, self._held = self._held, None
        self._drop_held()
        if not self.transport.is_closing():
            self._resume()
        if held is not None:
            self._wait_for_close(held)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting the connection, and tell the app."""
        self._table.remove(self)
        if isinstance(exc, TimeoutError):
            self._count("not_reading")
        self._drop_held()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass on what the limits allow."""
        self._received_at = time.monotonic()
        if self._held is not None:
            # The event loop had read it already.
            self._held += data
        elif self._ending_since is not None:
            self._lingering_bytes += len(data)
            if self._lingering_bytes > _LINGER_BYTES:
                self.transport.abort()
        elif self.close_sent or self._is_discarding:
            self._wait_for_close(data)
        else:
            self._follow(data)

    def _follow(self, data: bytes) -> None:
        """Look at the heads in ``data``, and pass it on up to the first payload that must wait."""
        at = 0
        while (head := self._heads.next(data, at)) is not None:
            if (refusal := self._refusal_of(head)) is not None:
                self._pass_on(data[: head.end])
                # What the library has refused itself has its own code.
                if self._ending_since is None:
                    self.fail(*refusal)
                return
            at = head.end
            if head.opcode == BINARY and self._gate is not None:
                size = head.length if head.final else None
                admitted = self._gate.begin(size)
                if self._ending_since is not None:
                    return
                if not admitted:
                    self._pass_on(data[:at])
                    self._hold(data[at:], size)
                    return
        if self._heads.payload_left == 0 and not self._in_message:
            self._message_since = None
        self._pass_on(data)

    def _refusal_of(self, head: Head) -> tuple[int, str] | None:
        """Count the frame; return the code and the reason of a close when it exceeds a limit."""
        if head.is_control:
            now = time.monotonic()
            earned = (now - self._control_at) * _CONTROL_PER_S
            self._control_credit, self._control_at = min(_CONTROL_BURST, self._control_credit + earned) - 1, now
            if self._control_credit < 0:
                return _POLICY, f"more than {_CONTROL_PER_S:g} control frames a second"
            return None
        if head.begins_message:
            self._message_bytes = self._fragments = 0
            self._message_since = time.monotonic()
        self._in_message = not head.final
        self._message_bytes += head.length
        self._fragments += 1
        most = MAX_TEXT_BYTES
        if head.opcode != 0x1 and self._limits is not None:
            most = self._limits.max_bytes
        if self._message_bytes > most:
            return _TOO_BIG, f"the message has {self._message_bytes} bytes; at most {most} are accepted"
        if self._fragments > _FREE_FRAGMENTS + self._message_bytes // _MIN_FRAGMENT_BYTES:
            return _POLICY, f"the message comes in frames of fewer than {_MIN_FRAGMENT_BYTES} bytes"
        return None

    def _pass_on(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.parser_exc is not None and self._ending_since is None:
            self._begin_ending()

    def send_receive_event_to_app(self) -> None:
        """Give the app a whole message; text that is no UTF-8 ends the connection, without a line in the log."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self.fail(_NO_TEXT, "a text message is not UTF-8")
                return
        super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """Close after a message that breaks the protocol; the client gets time to read the close."""
        if self._ending_since is None:
            self._begin_ending()

    def _begin_ending(self) -> None:
        """Send the close that the library has made, tell the app, and discard the rest."""
        sent = self.conn.close_sent
        code, reason = (1006, "") if sent is None else (sent.code, sent.reason)
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.close_sent = True
        self._ending_since = time.monotonic()
        self._drop_held()
        if not self.transport.is_closing():
            self.transport.write(b"".join(self.conn.data_to_send()))
            self._resume()
            if self.transport.can_write_eof():
                self.transport.write_eof()
        # run_asgi closes the transport at the end of the app unless this timer runs.
        self.close_timer = self.loop.call_later(_LINGER_S, self.transport.close)

    def fail(self, code: int, reason: str) -> None:
        """Close the connection now; the app receives ``websocket.disconnect`` with ``code``."""
        if self._ending_since is not None or self.close_sent or self.transport.is_closing():
            return
        self._count(f"websocket_{code}")
        self.conn.fail(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))
        self._begin_ending()

    def _hold(self, data: bytes, size: int | None) -> None:
        """Read no more until there is memory for the message."""
        self._held, self._held_size, self._held_since = data, size, time.monotonic()
        self.transport.pause_reading()
        self._asking = self.loop.call_later(_ASK_AGAIN_S, self._ask_again)

    def _ask_again(self) -> None:
        self._asking = None
        if self._held is None or self._gate is None or self.transport.is_closing():
            return
        if not self._gate.begin(self._held_size):
            assert self._limits is not None
            if time.monotonic() - self._held_since > self._limits.wait_timeout_s:
                self.fail(self._limits.busy, "no memory for this message now; connect again later")
                return
            self._asking = self.loop.call_later(_ASK_AGAIN_S, self._ask_again)
            return
        data, self._held = self._held, None
        self._message_since = self._received_at = time.monotonic()
        if not self.read_paused:
            self.transport.resume_reading()
        self._follow(data)

    def _drop_held(self) -> None:
        self._held = None
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None

    def _resume(self) -> None:
        self.read_paused = False
        self.transport.resume_reading()

    def _wait_for_close(self, data: bytes) -> None:
        """Discard what comes up to the client's close."""
        at = 0
        while (head := self._heads.next(data, at)) is not None:
            if head.opcode == CLOSE:
                self.transport.close()
                return
            at = head.end

    async def receive(self) -> Any:
        """Return the next message of the client; what waits for memory stays unread."""
        message = await super().receive()
        if self._held is not None or not self.handshake_complete:
            self.transport.pause_reading()
        return message

    async def send(self, message: Any) -> None:
        """Send; after a close only the client's close is waited for. Raises ClientDisconnected (an OSError)."""
        if self.close_sent and self.initial_response is None:
            # It was closed below the app: for the app it is gone.
            raise ClientDisconnected
        if message["type"] == "websocket.close" and self.handshake_complete and not self.close_sent:
            self.stop_reading()
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            # A handshake that was refused with a response is complete. uvicorn would write an error into the log for
            # each one, so that a client without a token could fill it.
            self.handshake_complete = True
        if message["type"] == "websocket.accept" and not self.transport.is_closing():
            # Nothing is read before, because a client must not send before it has the response.
            self.transport.resume_reading()
        if self.close_sent and self.initial_response is not None:
            # A handshake that is refused with a response is complete; the library would log it as an error.
            self.handshake_complete = True

    def shutdown(self) -> None:
        """Close when the server stops, unless the app does it."""
        if self._gate is None or self.close_sent:
            super().shutdown()

    def keepalive_timeout(self) -> None:
        """Fail a client that has sent nothing since the ping; a pong can come only after the message in progress."""
        if self._held is not None or self._received_at > self._pinged_at:
            self.pong_timer = None
            self.pending_ping_payload = None
            self.schedule_ping()
            return
        self.fail(1011, "no answer to a ping")

    def send_keepalive_ping(self) -> None:
        """Send a ping, and note when."""
        self._pinged_at = time.monotonic()
        super().send_keepalive_ping()

    def make_room(self) -> None:
        """Close the connection for another client; a WebSocket counts as busy, so this happens at no time."""
        self.transport.close()

    def sweep(self, now: float) -> None:
        """End the connection if it has exceeded a limit of time; called about once a second."""
        if self.transport.is_closing() or self._ending_since is not None:
            # What was written may never be read: then closing alone would wait for ever.
            self._ending_since = self._ending_since or now
            if now - self._ending_since > _LINGER_S:
                self.transport.abort()
        elif self._blocked_since is not None and now - self._blocked_since > self._http.write_timeout_s:
            self._count("not_reading")
            self.transport.abort()
        elif self._is_slow(now) and not self.close_sent:
            limits = self._limits
            code = _POLICY if limits is None else limits.too_slow
            self.fail(code, f"a message was not complete within {self._message_timeout_s:g} s")

    def _is_slow(self, now: float) -> bool:
        if self._message_since is None or self._held is not None or self._is_discarding:
            return False
        if self.read_paused:
            # The app has not taken what was received before: the client cannot go on.
            self._message_since = now
            return False
        return now - self._message_since > self._message_timeout_s

    @property
    def _message_timeout_s(self) -> float:
        return self._http.header_timeout_s if self._limits is None else self._limits.message_timeout_s

    def _count(self, reason: str) -> None:
        HTTP_REFUSED.labels(self._table.server, reason).inc()


def _refusal(status: int, reason: Exception | None) -> bytes:
    """Return the response to a handshake that is none; it names the version of the protocol that is taken."""
    code = "UPGRADE_REQUIRED" if status == HTTPStatus.UPGRADE_REQUIRED else "BAD_REQUEST"
    headers = {"upgrade": "websocket", "sec-websocket-version": "13"}
    return error_response(status, code, f"this is no valid handshake of a WebSocket: {reason}", headers)
