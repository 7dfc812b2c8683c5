"""Sends requests to a broker without a Kafka client, to find out whether it responds and which nodes it sees."""

from __future__ import annotations

import socket
import struct

_API_VERSIONS_KEY = 18
_METADATA_KEY = 3
_CLIENT = b"standgale"
_CORRELATION = 1
_TIMEOUT_S = 1.0


def serves(address: str) -> bool:
    """Return whether a broker at ``address`` responds to ApiVersions, the first request of Kafka's protocol."""
    reply = _ask(address, _API_VERSIONS_KEY, b"")
    return reply is not None and len(reply) >= 2 and struct.unpack_from(">h", reply)[0] == 0


def nodes_seen(address: str) -> int:
    """Return how many working nodes the broker at ``address`` reports to clients; 0 when it does not respond."""
    no_topics = struct.pack(">i?", 0, False)
    reply = _ask(address, _METADATA_KEY, no_topics, version=4)
    # Version 4 begins with the throttle time; the nodes follow.
    return 0 if reply is None or len(reply) < 8 else int(struct.unpack_from(">i", reply, 4)[0])


def _ask(address: str, key: int, body: bytes, version: int = 0) -> bytes | None:
    """Return the reply without its correlation id; None when there is none in time."""
    host, _, port = address.rpartition(":")
    request = struct.pack(">hhih", key, version, _CORRELATION, len(_CLIENT)) + _CLIENT + body
    try:
        with socket.create_connection((host, int(port)), timeout=_TIMEOUT_S) as link:
            link.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", _exactly(link, 4))
            reply = _exactly(link, size)
    except (OSError, EOFError):
        return None
    (correlation,) = struct.unpack_from(">i", reply)
    return reply[4:] if correlation == _CORRELATION else None


def _exactly(link: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        piece = link.recv(count - len(received))
        if not piece:
            raise EOFError
        received += piece
    return received
