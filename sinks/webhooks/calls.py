"""Calls one web-hook: to an address that was checked, without redirects, within limits of time and size."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

import aiohttp

from infra.network.addresses import AddressRefusedError, AddressRules, allowed_addresses
from infra.network.checked_http import checked_connector, find_allowed, is_address
from infra.network.responses import retry_after_s
from sinks.webhooks.settings import WebhookSettings

_NO_LONGER = 410
_SHOWN = 200
_LOCALHOST, _LOOPBACK = "localhost", "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Says what became of a call: ``error`` is None when the receiver took the delivery."""

    status: int | None
    error: str | None
    retry_after_s: float | None = None

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants no more calls."""
        return self.status == _NO_LONGER


def require_allowed_literal(url: str, settings: WebhookSettings) -> None:
    """Raise AddressRefusedError for an address in ``url`` itself that is not called; a name is looked up later."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    literal = _LOOPBACK if host == _LOCALHOST or host.endswith(f".{_LOCALHOST}") else host
    if not is_address(literal):
        return
    rules = AddressRules.of(settings, public_too=True)
    found = allowed_addresses(host, 0, rules, lambda _host, _port: [literal])
    if parts.scheme != "https" and settings.require_https:
        _require_held(host, found, rules, settings)


def _require_held(host: str, found: Sequence[str], rules: AddressRules, settings: WebhookSettings) -> None:
    """Raise AddressRefusedError for what is called without TLS and outside of the networks that allow it."""
    if not all(rules.holds(ip_address(each.partition("%")[0])) for each in found):
        raise AddressRefusedError(
            f"{host} is called by https:// only ({settings.named('require_https')}), because it is outside of "
            f"{settings.named('networks')}"
        )


class Caller:
    """Makes calls; :meth:`close` it at the end."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._rules = AddressRules.of(settings, public_too=True)
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, payload: bytes, headers: Mapping[str, str]) -> Outcome:
        """Send ``payload`` to ``url``; no error of the receiver or of the network raises."""
        try:
            # Also of the look-up before the call.
            async with asyncio.timeout(self._settings.timeout_s):
                return await self._post(url, payload, headers)
        except AddressRefusedError as error:
            return Outcome(None, str(error))
        except TimeoutError:
            return Outcome(None, f"no response within {self._settings.timeout_s:g} s (webhooks.timeout_s)")
        except (aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as error:
            cause = error.__cause__ if isinstance(error.__cause__, AddressRefusedError) else error
            return Outcome(None, f"{type(cause).__name__}: {cause}"[:_SHOWN])

    async def _post(self, url: str, payload: bytes, headers: Mapping[str, str]) -> Outcome:
        await self._require_allowed(url)
        headers = {"Content-Type": "application/json", **headers}
        async with self._opened().post(url, data=payload, headers=headers, allow_redirects=False) as response:
            # The body of the response is not read: it may be endless.
            return _outcome(response)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def _require_allowed(self, url: str) -> None:
        """Raise AddressRefusedError for an address in the url itself, which is not looked up, and for plain http."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        plain = parts.scheme != "https" and self._settings.require_https
        if not plain and not is_address(host):
            return
        found = await find_allowed(host, port, self._rules)
        if plain:
            _require_held(host, found, self._rules, self._settings)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = checked_connector(self._rules, self._settings.concurrency)
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=self._settings.timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "standgale-webhooks/1"},
                trust_env=False,
                auto_decompress=False,
            )
        return self._session


def _outcome(response: aiohttp.ClientResponse) -> Outcome:
    status = response.status
    if 200 <= status < 300:
        return Outcome(status, None)
    if 300 <= status < 400:
        return Outcome(
            status, f"the receiver answered {status}; redirects are not followed, because they may lead inside"
        )
    return Outcome(status, f"the receiver answered {status}", retry_after_s(response.headers.get("Retry-After", "")))
