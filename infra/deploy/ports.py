"""Chooses free ports for servers and processes of this machine."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

# Below the ports that systems give to outgoing connections (Linux from 32,768): while a server is down for a restart,
# no client of the same machine is given its port.
_RANGE = range(20_000, 32_000)
_TRIES = 1_000


def free_ports(count: int) -> list[int]:
    """Choose ``count`` different TCP ports on 127.0.0.1 on which no server listens now."""
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            sockets.append(_bound())
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@contextmanager
def reserved_ports(count: int) -> Iterator[list[int]]:
    """Choose ports as :func:`free_ports` does, and keep other programs from getting them inside the block.

    A server that reuses addresses, as asyncio's, uvicorn's and Java's do, can listen there, also after a restart.
    """
    with ExitStack() as stack:
        ports = free_ports(count)
        for port in ports:
            reservation = stack.enter_context(socket.socket())
            reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reservation.bind(("127.0.0.1", port))
        yield ports


def free_port() -> int:
    """Choose one port, as :func:`free_ports` does."""
    return free_ports(1)[0]


def _bound() -> socket.socket:
    for _ in range(_TRIES):
        candidate = socket.socket()
        try:
            candidate.bind(("127.0.0.1", random.choice(_RANGE)))  # noqa: S311 (a port is no secret)
        except OSError:
            candidate.close()
        else:
            return candidate
    raise OSError(f"no free TCP port on 127.0.0.1 from {_RANGE.start} to {_RANGE.stop - 1}; end programs that use them")
