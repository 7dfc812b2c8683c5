"""Counts the open connections of a server by address, and chooses which one makes room for a new one."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Protocol

from infra.process.metrics import HTTP_CONNECTIONS, HTTP_REFUSED

_IPV6_PREFIX_BITS = 64


class Connection(Protocol):
    """Is one connection, as far as counting it needs."""

    address: str

    def make_room(self) -> None:
        """Close it now, although it did nothing wrong."""
        ...


@dataclass(slots=True)
class _Address:
    """Holds the connections of one address."""

    count: int = 0
    new: dict[Connection, None] = field(default_factory=dict)
    """Those that have not sent a whole request head yet, the oldest first"""
    idle: dict[Connection, None] = field(default_factory=dict)
    """Those between two requests, the one that is idle for longest first"""

    def oldest_without_request(self) -> Connection | None:
        """Return the connection that loses least when it is closed."""
        return next(iter(self.new), None) or next(iter(self.idle), None)


class ConnectionTable:
    """Holds at most ``most`` connections, and of one address at most ``share`` of them.

    At a limit a new connection takes the place of one without a request: of its own address when that has its share,
    else of the address with the most connections. So half-open and idle connections never keep a client out.
    """

    def __init__(self, server: str, most: int, share: float) -> None:
        self.server = server
        self._share = share
        self.set_most(most)
        self._addresses: dict[str, _Address] = {}
        self._members: set[Connection] = set()
        HTTP_CONNECTIONS.labels(server).set_function(lambda: len(self._members))

    def set_most(self, most: int) -> None:
        """Hold at most ``most`` connections from now on."""
        self.most = most
        self.most_of_address = max(1, int(most * self._share))

    def __len__(self) -> int:
        return len(self._members)

    def admit(self, connection: Connection) -> bool:
        """Count a new connection; return False when there is no room for it and none that can make room."""
        own = self._addresses.get(connection.address)
        if own is not None and own.count >= self.most_of_address:
            victim = own.oldest_without_request()
        elif len(self._members) >= self.most:
            victim = self._victim()
        else:
            self._add(connection)
            return True
        if victim is None:
            return False
        HTTP_REFUSED.labels(self.server, "made_room").inc()
        self.remove(victim)
        victim.make_room()
        self._add(connection)
        return True

    def remove(self, connection: Connection) -> None:
        """Stop counting a connection; it may be gone already."""
        one = self._addresses.get(connection.address)
        if one is None or connection not in self._members:
            return
        self._members.discard(connection)
        one.count -= 1
        one.new.pop(connection, None)
        one.idle.pop(connection, None)
        if one.count == 0:
            del self._addresses[connection.address]

    def set_busy(self, connection: Connection) -> None:
        """Note that the connection has a request in progress: it never makes room."""
        one = self._addresses.get(connection.address)
        if one is not None:
            one.new.pop(connection, None)
            one.idle.pop(connection, None)

    def set_idle(self, connection: Connection) -> None:
        """Note that the connection waits for its next request."""
        one = self._addresses.get(connection.address)
        if one is not None and connection in self._members:
            one.idle[connection] = None

    def hand_over(self, former: Connection, connection: Connection) -> None:
        """Count ``connection``, which has a request in progress for good, in place of ``former``: a WebSocket."""
        connection.address = former.address
        self.remove(former)
        self._add(connection)
        self.set_busy(connection)

    def _add(self, connection: Connection) -> None:
        one = self._addresses.setdefault(connection.address, _Address())
        one.count += 1
        one.new[connection] = None
        self._members.add(connection)

    def _victim(self) -> Connection | None:
        for one in sorted(self._addresses.values(), key=lambda each: each.count, reverse=True):
            if (victim := one.oldest_without_request()) is not None:
                return victim
        return None


def address_of(client: tuple[str, int] | None) -> str:
    """Return what counts as one address: an IPv4 address, or the network of an IPv6 address (64 bits)."""
    return "" if client is None else _address_of_host(client[0])


@lru_cache(maxsize=4_096)
def _address_of_host(host: str) -> str:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{IPv6Address(int(address) >> _IPV6_PREFIX_BITS << _IPV6_PREFIX_BITS)}/{_IPV6_PREFIX_BITS}"
    return str(address)
