"""Sends one frame to the gateway over HTTP, and gives up when nothing moves any more."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

import aiohttp
import orjson

from infra.errors import SettingsError
from infra.secrets import read_secret
from infra.telemetry.logs import add_secrets_to_mask
from ingest.edge.sending.bandwidth import Bandwidth
from ingest.edge.sending.responses import NotSent, Outcome, outcome_of
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool.frame_file import Header, SpooledFrame
from schemas.timestamps import format_utc

PATH = "/api/v1/frames"
_MOST_RESPONSE_BYTES = 65_536
# A longer query may be refused on the way; such fields travel in a form instead.
_LONGEST_QUERY = 4_096
KEEP_ALIVE_S = 4.0
"""Below the gateway's http.keep_alive_s, so that no upload begins on a connection that is being closed."""


class Uploader:
    """Holds the connection to the gateway. Use it as an asynchronous context manager."""

    def __init__(self, settings: EdgeSettings, token_file: Path | None) -> None:
        """``token_file`` is read anew before each upload. Raises SettingsError when edge.ca_file cannot be used."""
        assert settings.url is not None
        self._url = settings.url + PATH
        self._settings = settings
        self._token_file = token_file
        self._token = settings.token.get_secret_value() if settings.token else ""
        self._bandwidth = Bandwidth(settings.max_bytes_per_s)
        self._tls = _tls(settings) if self._url.startswith("https:") else None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=1, keepalive_timeout=KEEP_ALIVE_S, ssl=self._tls or True)
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

    async def send(self, frame: SpooledFrame) -> Outcome:
        """Upload ``frame`` once; every failure is an outcome."""
        try:
            return await self._post(frame)
        except TimeoutError:
            limit = f"edge.stall_timeout_s is {self._settings.stall_timeout_s:g}"
            return NotSent(f"{self._url} does not respond ({limit})", "NO_RESPONSE")
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError, ssl.SSLError) as error:
            return NotSent(f"no secure connection to {self._url}: {error}; see edge.ca_file", "TLS", needs_person=True)
        except (aiohttp.ClientError, OSError) as error:
            return NotSent(f"{self._url} cannot be reached: {error or type(error).__name__}", "UNREACHABLE")

    async def _post(self, frame: SpooledFrame) -> Outcome:
        assert self._session is not None
        pairs = _fields(frame.header)
        token = await self._current_token()
        if not (token.isascii() and token.isprintable()):
            return NotSent("the token has characters that no token has; see edge.token", "TOKEN", needs_person=True)
        headers = {"X-API-Token": token, "Content-Type": "application/octet-stream"}
        body = frame.image
        if len(urlencode(pairs)) > _LONGEST_QUERY:
            # No image contains its own hash.
            boundary = f"standgale-{frame.header.sha256[:40]}"
            headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
            pairs, body = [], _form(pairs, frame.image, boundary)
        headers["Content-Length"] = str(len(body))
        async with asyncio.timeout(self._settings.stall_timeout_s) as stall:
            async with self._session.post(
                self._url, params=pairs, data=self._body(body, stall), headers=headers, allow_redirects=False
            ) as response:
                content = await response.content.read(_MOST_RESPONSE_BYTES)
                while not response.content.at_eof() and len(content) < _MOST_RESPONSE_BYTES:
                    content += await response.content.read(_MOST_RESPONSE_BYTES - len(content))
                return outcome_of(response.status, response.headers, content, frame.header.sha256)

    async def _body(self, body: bytes, stall: asyncio.Timeout) -> AsyncIterator[memoryview]:
        """Yield the pieces of ``body``; each begins the time limit for progress anew."""
        loop = asyncio.get_running_loop()
        async for piece in self._bandwidth.pieces(body):
            if not stall.expired():
                stall.reschedule(loop.time() + self._settings.stall_timeout_s)
            yield piece

    async def _current_token(self) -> str:
        if self._token_file is not None:
            # While the file is missing or unreadable, the former token counts.
            found = await asyncio.to_thread(read_secret, self._token_file)
            if found and found != self._token:
                self._token = found
                add_secrets_to_mask([found])
        return self._token


def _tls(settings: EdgeSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if settings.ca_file is None else str(settings.ca_file))
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"{settings.named('ca_file')} is {settings.ca_file}, which cannot be used: {error.strerror or error}; it "
            "takes a PEM file with certificates"
        ) from error


def _fields(header: Header) -> list[tuple[str, str]]:
    pairs = [("captured_at", format_utc(header.captured_at))]
    if header.name:
        pairs.append(("original_filename", header.name))
    pairs += [(name, repr(float(value))) for name, value in header.camera.items()]
    if header.metadata:
        pairs.append(("metadata", orjson.dumps(header.metadata).decode()))
    return pairs


def _form(pairs: list[tuple[str, str]], image: bytes, boundary: str) -> bytes:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in pairs
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"\r\n\r\n'.encode()
    return b"".join((*parts, head, image, f"\r\n--{boundary}--\r\n".encode()))
