"""Makes posts to the Annotations service: without redirects, within limits of time and size."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp

from infra.network.responses import read_bounded, retry_after_s
from sinks.annotations.errors import AnnotationsUnavailableError
from sinks.annotations.settings import AnnotationsSettings

MOST_RESPONSE = 1_000_000
"""Bytes of a response that are read"""
_PATH = "/annotations"
_SHOWN = 500


class NoResponseError(Exception):
    """The service took a connection and gave no whole response; the post may have been taken."""


@dataclass(frozen=True, slots=True)
class PostResponse:
    """Is the response of the service; ``body`` is None where it was larger than MOST_RESPONSE."""

    status: int
    body: bytes | None
    retry_after_s: float | None = None
    """How long the service asks to wait"""
    media_type: str = ""

    @property
    def is_taken(self) -> bool:
        """Whether the post was taken."""
        return 200 <= self.status < 300

    @property
    def is_later(self) -> bool:
        """Whether the same post may be taken later. 409: an attempt with the same key is in progress."""
        return self.status in (408, 409, 425, 429) or self.status >= 500

    def text(self, token: str) -> str:
        """Return status and body for people, shortened, and without ``token`` in case the service repeats it."""
        shown = (self.body or b"")[: 4 * _SHOWN].decode(errors="replace").replace(token, "**********")
        plain = " ".join("".join(char if char.isprintable() else " " for char in shown).split())
        return f"answered {self.status}" + (f": {plain[:_SHOWN]}" if plain else " without a text")


class AnnotationsClient:
    """Posts to the service at ``url``; :meth:`close` it at the end."""

    def __init__(self, url: str, settings: AnnotationsSettings) -> None:
        self.where = f"the Annotations service at {urlsplit(url).netloc} (media.annotations_url)"
        self._url = f"{url}{_PATH}"
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    async def post(self, body: bytes, key: UUID, token: str) -> PostResponse:
        """Send ``body`` once; ``key`` lets the service recognise a post that it has taken before.

        Raises AnnotationsUnavailableError when there is no connection, and NoResponseError when there was one.
        """
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {token}",
            "Idempotency-Key": str(key),
        }
        try:
            async with (
                asyncio.timeout(self._settings.timeout_s),
                self._opened().post(self._url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                data = await read_bounded(response, MOST_RESPONSE + 1)
                return PostResponse(
                    response.status,
                    data if len(data) <= MOST_RESPONSE else None,
                    retry_after_s(response.headers.get("Retry-After", "")),
                    response.content_type,
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            reason = getattr(getattr(error, "os_error", None), "strerror", None) or type(error).__name__
            raise AnnotationsUnavailableError(f"{self.where} cannot be connected to: {reason}") from error
        except TimeoutError as error:
            raise NoResponseError(
                f"no response within {self._settings.timeout_s:g} s ({self._settings.named('timeout_s')})"
            ) from error
        except (aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as error:
            # Not its text, which may have the request.
            raise NoResponseError(f"the connection ended without a response ({type(error).__name__})") from error

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._settings.concurrency),
                # Shorter than the whole, so that the two can be told apart.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._settings.timeout_s / 2),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "standgale-annotations/1"},
                trust_env=False,
            )
        return self._session
