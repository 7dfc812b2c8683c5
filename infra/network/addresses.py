"""Looks up hosts, and refuses addresses that a user's request must not reach: this machine, its network's services.

A host is looked up once, and the connection goes to the address that was checked: a name that gives another address
the next time changes nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

from schemas.errors import StandgaleError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Lookup = Callable[[str, int], Sequence[str]]
"""Returns the addresses of a host as text; raises OSError."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_MOST_ADDRESSES = 16
# Python counts some of them as private, and none of a camera's has one: reserved, for protocols, and of Teredo.
_RESERVED = tuple(map(ipaddress.ip_network, ("240.0.0.0/4", "192.0.0.0/24", "2001::/32", "3fff::/20")))
# All public addresses of IPv6 are in it. Python also takes site-local ones for public, and forms of private IPv4.
_PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
# Not link-local, and yet services of clouds for their machines: AWS by IPv6, Alibaba, Azure; Oracle's is reserved.
_CLOUD = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "168.63.129.16")))


class AddressRefusedError(StandgaleError):
    """A host has an address that must not be reached from here; the text names the setting that allows it."""

    code: ClassVar[str] = "ADDRESS_REFUSED"


class NetworkSection(Protocol):
    """Is the part of a settings section that names networks."""

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks, such as 192.168.7.0/24."""
        ...

    def named(self, *fields: str) -> str:
        """Return paths and variables of ``fields``, for errors."""
        ...


@dataclass(frozen=True, slots=True)
class AddressRules:
    """Says which addresses may be reached."""

    networks: tuple[Network, ...] = ()
    """Only these; empty: public and private ones, but neither this machine nor link-local or multicast addresses"""
    setting: str = "the allowed networks"
    """The name of the setting, for errors"""
    public_too: bool = False
    """Public addresses besides ``networks``, and private ones only inside them"""

    @classmethod
    def of(cls, section: NetworkSection, *, public_too: bool = False) -> Self:
        """Return the rules that the setting ``networks`` of ``section`` makes."""
        networks = tuple(ipaddress.ip_network(each, strict=False) for each in section.networks)
        return cls(networks, section.named("networks"), public_too)

    def allow(self, address: Address) -> bool:
        """Return whether ``address`` may be reached."""
        plain = _plain(address)
        if self.public_too:
            return self.holds(plain) or _is_public(plain)
        if self.networks:
            return self.holds(plain)
        return not (
            plain.is_loopback
            or plain.is_link_local
            or plain.is_multicast
            or plain.is_unspecified
            or (plain.is_reserved and not plain.is_private)
            or _is_special(plain)
            or _is_this_network(plain)
        )

    def holds(self, address: Address) -> bool:
        """Return whether ``address`` is in one of the networks that are named."""
        plain = _plain(address)
        return any(plain in network for network in self.networks if network.version == plain.version)


def look_up(host: str, port: int) -> list[str]:
    """Return the addresses of ``host``. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found[:_MOST_ADDRESSES]]


def allowed_addresses(host: str, port: int, rules: AddressRules, lookup: Lookup = look_up) -> list[str]:
    """Return the addresses of ``host``, all of which ``rules`` allow.

    Raises AddressRefusedError when one of them is refused, since a name that has an allowed and a refused address is
    made to deceive; OSError when the host is not found.
    """
    addresses = list(dict.fromkeys(lookup(host, port)))
    if not addresses:
        raise OSError(f"{host} has no address")
    for text in addresses:
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError as error:
            raise AddressRefusedError(f"{host} has the address {text!r}, which is none of IPv4 or IPv6") from error
        if not rules.allow(address):
            where = "" if text == host else f" has the address {address}, which"
            setting = rules.setting
            if not rules.networks and not rules.public_too:
                setting += ", with those of all other hosts: when it is set, only these are allowed"
            raise AddressRefusedError(
                f"{host}{where} is not allowed: {_kind(address)}. If it is meant, add its network to {setting}"
            )
    return addresses


def connect(host: str, port: int, rules: AddressRules, *, timeout_s: float, lookup: Lookup = look_up) -> socket.socket:
    """Return a connection to ``host``, to an address that was checked against ``rules``.

    Raises AddressRefusedError, or OSError when no address of the host accepts.
    """
    errors: list[OSError] = []
    for address in allowed_addresses(host, port, rules, lookup):
        try:
            return socket.create_connection((address, port), timeout=timeout_s)
        except OSError as error:
            errors.append(error)
    raise errors[0]


def _plain(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, where it does; else ``address``."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address in _NAT64:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in _PUBLIC_IPV6:
        return False
    return address.is_global and not address.is_multicast and not _is_special(address)


def _is_special(address: Address) -> bool:
    """Whether it is an address for protocols, or where a cloud serves its machines."""
    return address in _CLOUD or any(address in network for network in _RESERVED if network.version == address.version)


def _is_this_network(address: Address) -> bool:
    return isinstance(address, ipaddress.IPv4Address) and address in ipaddress.IPv4Network("0.0.0.0/8")


def _kind(address: Address) -> str:
    plain = _plain(address)
    if plain.is_loopback:
        return "it is this machine"
    if plain.is_link_local or plain in _CLOUD:
        return "it is an address where clouds keep credentials"
    if plain.is_multicast:
        return "it is a multicast address"
    return "it is in none of the allowed networks"
