"""Free ports for servers and processes of this machine."""

from __future__ import annotations

import socket


def free_ports(count: int) -> list[int]:
    """``count`` different TCP ports on 127.0.0.1 that nobody listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def free_port() -> int:
    """One of :func:`free_ports`."""
    return free_ports(1)[0]
