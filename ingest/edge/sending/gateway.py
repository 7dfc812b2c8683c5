"""Holds the connections to the gateway, with the token and the authorities that the settings name."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from infra.network.responses import read_bounded
from infra.network.tls import trusting_tls
from infra.secrets import read_secret
from infra.telemetry.logs import add_secrets_to_mask
from ingest.edge.sending.responses import NotSent
from ingest.edge.settings import EdgeSettings

KEEP_ALIVE_S = 4.0
"""Below the gateway's http.keep_alive_s, so that no upload begins on a connection that is being closed."""
MOST_RESPONSE_BYTES = 65_536

# One for live frames, one for the backlog, one for questions.
_CONNECTIONS = 3


@dataclass(frozen=True, slots=True)
class Response:
    """Is what the gateway, or something else at its address, responds."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NotSentError(Exception):
    """A request has no response, for a reason that the outcome states."""

    def __init__(self, outcome: NotSent) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class GatewayConnection:
    """Sends requests. Use it as an asynchronous context manager."""

    def __init__(self, settings: EdgeSettings, token_file: Path | None) -> None:
        """``token_file`` is read anew before each request. Raises SettingsError when edge.ca_file cannot be used."""
        assert settings.url is not None
        self.url = settings.url
        self._settings = settings
        self._token_file = token_file
        self._token = settings.token.get_secret_value() if settings.token else ""
        self._tls = trusting_tls(settings.ca_file, settings.named("ca_file")) if self.url.startswith("https:") else None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=KEEP_ALIVE_S, ssl=self._tls or True)
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._settings.connect_timeout_s, connect=2 * self._settings.connect_timeout_s
        )
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The open connections."""
        assert self._session is not None
        return self._session

    async def headers(self) -> dict[str, str]:
        """Return the headers that each request has. Raises NotSentError for a token that none can be."""
        if self._token_file is not None:
            # While the file is missing or unreadable, the former token counts.
            found = await asyncio.to_thread(read_secret, self._token_file)
            if found and found != self._token:
                self._token = found
                add_secrets_to_mask([found])
        if not (self._token.isascii() and self._token.isprintable()):
            reason = "the token has characters that no token has; see edge.token"
            raise NotSentError(NotSent(reason, "TOKEN", needs_person=True))
        return {"X-API-Token": self._token}

    async def open_socket(self, path: str, subprotocol: str) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket. Raises NotSentError, and aiohttp.WSServerHandshakeError with the status of a refusal."""
        try:
            headers = await self.headers()
            async with asyncio.timeout(self._settings.stall_timeout_s):
                return await self.session.ws_connect(
                    self.url + path, protocols=(subprotocol,), headers=headers, max_msg_size=MOST_RESPONSE_BYTES
                )
        except aiohttp.WSServerHandshakeError:
            raise
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise NotSentError(self.failure(error)) from error

    async def post_json(self, path: str, body: bytes) -> Response:
        """Send ``body`` to ``path``. Raises NotSentError when nothing responds."""
        try:
            headers = {**await self.headers(), "Content-Type": "application/json"}
            async with (
                asyncio.timeout(self._settings.stall_timeout_s),
                self.session.post(self.url + path, data=body, headers=headers, allow_redirects=False) as response,
            ):
                return await read_response(response)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise NotSentError(self.failure(error)) from error

    def failure(self, error: Exception) -> NotSent:
        """Return why there is no response."""
        if isinstance(error, TimeoutError):
            limit = f"edge.stall_timeout_s is {self._settings.stall_timeout_s:g}"
            return NotSent(f"{self.url} does not respond ({limit})", "NO_RESPONSE")
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError | ssl.SSLError):
            return NotSent(f"no secure connection to {self.url}: {error}; see edge.ca_file", "TLS", needs_person=True)
        return NotSent(f"{self.url} cannot be reached: {error or type(error).__name__}", "UNREACHABLE")


async def read_response(response: aiohttp.ClientResponse) -> Response:
    """Return ``response`` with its body, of which no more is read than the gateway's have."""
    return Response(response.status, response.headers, await read_bounded(response, MOST_RESPONSE_BYTES))
