"""Writes the head of a response together with the beginning of its body."""

from __future__ import annotations

import asyncio

_HEAD = b"HTTP/1.1 "
_INTERIM = b"HTTP/1.1 1"


class JoinedHead:
    """Is the transport of a connection, as far as responses need it.

    A head is written with the piece of the body that follows it, which saves a packet and a wake-up of the client.
    Where none follows in the same round of the event loop, as in a live stream, it is written at the end of the round.
    """

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        """Write ``data``, or keep it for a moment if it is the head of a response."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        elif data.startswith(_HEAD) and not data.startswith(_INTERIM):
            self._head = data
            self._loop.call_soon(self.flush)
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Write a head that was kept."""
        if self._head:
            head, self._head = self._head, b""
            if not self._transport.is_closing():
                self._transport.write(head)

    def close(self) -> None:
        """Close the connection when all is written."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is closing or closed."""
        return self._transport.is_closing()
