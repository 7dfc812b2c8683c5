"""Defines how an app limits the messages of a WebSocket before they are in memory; ``scope["extensions"]`` has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

MAX_REASON_BYTES = 120
"""The longest text of a close; the protocol has room for 123 bytes."""
FLOW_EXTENSION = "standgale.flow"
"""The name under which the scope of a WebSocket has its :class:`MessageFlow`."""


class MessageGate(Protocol):
    """Is asked before each binary message is received."""

    def begin(self, size_bytes: int | None) -> bool:
        """Reserve memory for a message of ``size_bytes`` (None: in several frames, so not known yet).

        False: not now; no more is read from the client, and this is asked again some ms later.
        """
        ...


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """Says how large and how slow messages may be; each code is that of the close when a limit is exceeded."""

    max_bytes: int
    """Of a binary message; text is limited by the server."""
    message_timeout_s: float
    """How long a message may take that has begun."""
    wait_timeout_s: float
    """How long a message may wait for memory."""
    too_slow: int
    busy: int


class MessageFlow(Protocol):
    """Is the connection below an app's WebSocket."""

    def set_gate(self, gate: MessageGate, limits: MessageLimits) -> None:
        """Ask ``gate`` before each binary message from now on; before this call only short messages are received.

        The app also closes the connection itself when the server stops, until the server's time for that is over.
        """
        ...

    def stop_reading(self) -> None:
        """Discard what the client sends from now on: the app only ends what it has begun, then closes."""
        ...

    def fail(self, code: int, reason: str) -> None:
        """Close the connection now; the app receives ``websocket.disconnect`` with ``code``."""
        ...
