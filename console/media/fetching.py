"""Fetches the bytes of a medium: from an address that was checked, or from the Annotations service."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

import aiohttp

from console.media.config import MediaRequest
from console.media.errors import MediumFetchError, MediumTooLargeError, UnauthorizedFetchError
from console.media.settings import MediaSettings
from infra.errors import TransientError
from infra.network.addresses import AddressRefusedError, AddressRules
from infra.network.checked_http import checked_connector, refusal_in, require_allowed

_PIECE = 1 << 18
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_LATER = (408, 425, 429, 500, 502, 503, 504)
_SILENCE_S = 30.0


class FetchLaterError(TransientError):
    """The server does not answer, or is busy; a later try may succeed."""

    code = "MEDIA_FETCH_FAILED"


class MediaFetcher:
    """Fetches; the caller's token goes to the Annotations service only, and nothing follows its redirects."""

    def __init__(self, settings: MediaSettings) -> None:
        self._settings = settings
        self._rules = AddressRules.of(settings, public_too=True)

    async def from_source(self, url: str, path: Path) -> None:
        """Write what is at ``url`` to ``path``; each redirect is checked as the address was.

        Raises MediumFetchError, MediumTooLargeError, and FetchLaterError where a later try may succeed.
        """
        connector = checked_connector(self._rules, 4)
        async with self._session(connector) as session:
            for _ in range(_MOST_REDIRECTS + 1):
                await self._require_allowed(url)
                target = await self._get(session, url, {}, path)
                if target is None:
                    return
                try:
                    url = urljoin(url, target)
                    MediaRequest(source=url)
                except ValueError as error:
                    raise MediumFetchError("the server redirects to what is no address of http or https") from error
        raise MediumFetchError(f"the address redirects more than {_MOST_REDIRECTS} times")

    async def from_annotations(self, media_id: str, token: str | None, path: Path) -> None:
        """Write the content of a medium of the Annotations service to ``path``; the errors are the same."""
        url = f"{self._settings.annotations_url}/media/{quote(media_id, safe='')}/content"
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with self._session(aiohttp.TCPConnector(limit=4)) as session:
            if await self._get(session, url, headers, path) is not None:
                raise MediumFetchError("the Annotations service answered with a redirect, which is not followed")

    async def _require_allowed(self, url: str) -> None:
        try:
            await require_allowed(url, self._rules)
        except AddressRefusedError as error:
            raise MediumFetchError(str(error)) from error
        except OSError as error:
            # It is a number, which no name server has to find.
            raise MediumFetchError(f"{urlsplit(url).hostname} is no address that can be reached from here") from error

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(
                total=self._settings.fetch_timeout_s, sock_connect=_SILENCE_S, sock_read=_SILENCE_S
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "standgale-media/1", "Accept-Encoding": "identity"},
            trust_env=False,
            auto_decompress=False,
        )

    async def _get(self, session: aiohttp.ClientSession, url: str, headers: dict[str, str], path: Path) -> str | None:
        """Write the response to ``path``, or return where it redirects to."""
        host = urlsplit(url).hostname
        try:
            async with session.get(url, headers=headers, allow_redirects=False) as response:
                if response.status in _REDIRECTS:
                    return response.headers.get("Location", "")
                if response.status in _LATER:
                    raise FetchLaterError(f"{host} answered {response.status}")
                if response.status != 200:
                    kind = UnauthorizedFetchError if response.status == 401 else MediumFetchError
                    raise kind(f"{host} answered {response.status} when the medium was fetched")
                if (response.content_length or 0) > self._settings.max_bytes:
                    raise self._too_large()
                await self._write(response, path)
        except AddressRefusedError as error:
            raise MediumFetchError(str(error)) from error
        except aiohttp.InvalidURL as error:
            raise MediumFetchError("the address cannot be read; it is such as https://example.org/clip.mp4") from error
        except TimeoutError as error:
            raise FetchLaterError(f"{host} did not answer in time (media.fetch_timeout_s)") from error
        except (aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as error:
            refusal = refusal_in(error)
            if refusal is not None:
                raise MediumFetchError(str(refusal)) from error
            # Their texts may have the address, which may have a secret.
            raise FetchLaterError(f"the medium could not be fetched from {host} ({type(error).__name__})") from error
        return None

    async def _write(self, response: aiohttp.ClientResponse, path: Path) -> None:
        size = 0
        with await asyncio.to_thread(path.open, "wb") as file:
            async for piece in response.content.iter_chunked(_PIECE):
                size += len(piece)
                if size > self._settings.max_bytes:
                    raise self._too_large()
                await asyncio.to_thread(file.write, piece)
        if not size:
            raise MediumFetchError("the medium has no bytes")

    def _too_large(self) -> MediumTooLargeError:
        return MediumTooLargeError(
            f"the medium has more than {self._settings.max_bytes} bytes, the most that are accepted (media.max_bytes)"
        )
