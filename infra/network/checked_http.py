"""Makes HTTP calls to addresses that users give: each connection goes to an address that was checked."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from infra.network.addresses import AddressRefusedError, AddressRules, allowed_addresses
from infra.network.look_ups import LookUpThreads

_LOOK_UPS = LookUpThreads(32)


async def find_allowed(host: str, port: int, rules: AddressRules) -> list[str]:
    """Return the addresses of ``host``, all of which ``rules`` allow. Raises AddressRefusedError and OSError."""
    return await _LOOK_UPS.run(allowed_addresses, host, port, rules)


class CheckedResolver(AbstractResolver):
    """Looks up a host once for each connection; what it returns was checked, and is what is connected to."""

    def __init__(self, rules: AddressRules) -> None:
        self._rules = rules

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        """Return the addresses of ``host``. Raises AddressRefusedError and OSError."""
        found = await find_allowed(host, port, self._rules)
        return [
            ResolveResult(hostname=host, host=each, port=port, family=_family(each), proto=0, flags=0) for each in found
        ]

    async def close(self) -> None:
        """Close nothing."""


def checked_connector(rules: AddressRules, limit: int) -> aiohttp.TCPConnector:
    """Return a connector of at most ``limit`` connections; the next call looks the host up, and checks it, again."""
    return aiohttp.TCPConnector(resolver=CheckedResolver(rules), limit=limit, force_close=True, use_dns_cache=False)


def is_address(host: str) -> bool:
    """Whether ``host`` is an address itself, so that it is not looked up; it needs a check of its own."""
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


async def require_allowed(url: str, rules: AddressRules) -> None:
    """Raise AddressRefusedError when the host of ``url`` is an address that ``rules`` do not allow."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_address(host):
        await find_allowed(host, parts.port or 0, rules)


def refusal_in(error: BaseException) -> AddressRefusedError | None:
    """Return the refusal because of which aiohttp could not connect; None when it had another reason."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, AddressRefusedError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
