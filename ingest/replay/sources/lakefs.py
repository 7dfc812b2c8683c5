"""Lists and reads the objects of a LakeFS ref over its REST API."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import orjson
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar
from yarl import URL

from infra.errors import SettingsError
from ingest.replay.errors import RefusedItemError, SourceError, SourceUnavailableError
from ingest.replay.settings import ReplayLakeFsSettings
from ingest.replay.sources.names import too_large
from ingest.replay.sources.pairs import Listed

_API = "/api/v1"
_PAGE = 1_000
_MOST_PAGE_BYTES = 16 << 20
_QUOTED_CHARACTERS = 200
_TRANSIENT = (408, 423, 425, 429)


class LakeFsLister:
    """Reads one ref; :class:`ingest.replay.sources.objects.ObjectLister` has the contract.

    Requests go to the server of the settings only: redirects are not followed, so that the key goes nowhere else.
    """

    def __init__(
        self, repository: str, ref: str, prefix: str, settings: ReplayLakeFsSettings, timeout_s: float
    ) -> None:
        """Raise SettingsError without address and key. Connects at the first call."""
        if settings.endpoint_url is None or settings.access_key is None or settings.secret_key is None:
            names = settings.named("endpoint_url", "access_key", "secret_key")
            raise SettingsError(f"{names}: all three are needed to replay from LakeFS")
        self._base = settings.endpoint_url
        self._repository, self._ref, self._prefix = repository, ref, prefix
        self._timeout_s = timeout_s
        self._settings = settings
        pair = f"{settings.access_key.get_secret_value()}:{settings.secret_key.get_secret_value()}"
        # Without compression, a small response cannot unpack into a large one.
        self._headers = {
            "Accept-Encoding": "identity",
            "Authorization": f"Basic {b64encode(pair.encode()).decode()}",
        }
        self._session: ClientSession | None = None

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """Server, repository, ref and prefix."""
        address = f"lakefs://{self._repository}/{self._ref}/{self._prefix}"
        return {"kind": "lakefs", "address": address, "server": self._base}

    async def listed(self, after: str | None) -> AsyncIterator[Listed]:
        """Yield the objects after the path ``after``, by path."""
        while True:
            query = {"prefix": self._prefix, "after": after or "", "amount": str(_PAGE), "presign": "false"}
            page = await self._page(query)
            try:
                found = [
                    Listed(entry["path"], int(entry.get("size_bytes") or 0), _moment(entry.get("mtime")))
                    for entry in page["results"]
                    if entry.get("path_type", "object") == "object"
                ]
                more, offset = page["pagination"]["has_more"], page["pagination"]["next_offset"]
            except (KeyError, TypeError, ValueError) as error:
                raise SourceError(f"{self._base} does not respond as LakeFS does; correct its address") from error
            for each in found:
                yield each
            if not more:
                return
            if offset <= (after or ""):
                raise SourceError(
                    f"{self._base}: the list of {self.identity['address']} does not go on after {offset!r}"
                )
            after = offset

    async def read(self, key: str, most_bytes: int) -> bytes:
        """Return the object at ``key``."""
        path = self._path("objects", {"path": key, "presign": "false"})
        with self._translated("read"):
            async with asyncio.timeout(self._timeout_s), self._get(path) as response:
                if response.status in (404, 410):
                    raise RefusedItemError("FILE_GONE", "it was removed before it was read, or its bytes were deleted")
                await self._require_ok(response, "read")
                size = response.content_length
                if size is not None and size > most_bytes:
                    why = too_large(size, most_bytes)
                    raise RefusedItemError(why.code, why.reason)
                data = await _bounded(response, most_bytes)
        if size is not None and len(data) != size:
            raise SourceUnavailableError(f"{key} has {size} bytes, but {len(data)} came; it is read again")
        if len(data) > most_bytes:
            why = too_large(len(data), most_bytes)
            raise RefusedItemError(why.code, why.reason)
        return data

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _page(self, query: Mapping[str, str]) -> dict[str, Any]:
        with self._translated("list"):
            async with asyncio.timeout(self._timeout_s), self._get(self._path("objects/ls", query)) as response:
                await self._require_ok(response, "list")
                data = await _bounded(response, _MOST_PAGE_BYTES)
        try:
            page = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise SourceError(f"{self._base} does not respond as LakeFS does; correct its address") from error
        return page if isinstance(page, dict) else {}

    def _path(self, what: str, query: Mapping[str, str]) -> str:
        text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        repository, ref = quote(self._repository, safe=""), quote(self._ref, safe="")
        return f"{self._base}{_API}/repositories/{repository}/refs/{ref}/{what}?{text}"

    def _get(self, url: str) -> AbstractAsyncContextManager[ClientResponse]:
        if self._session is None:
            timeout_s = self._settings.timeout_s
            self._session = ClientSession(
                cookie_jar=DummyCookieJar(),
                headers=self._headers,
                auto_decompress=False,
                timeout=ClientTimeout(total=None, connect=timeout_s, sock_read=timeout_s),
            )
        return self._session.get(URL(url, encoded=True), allow_redirects=False)

    async def _require_ok(self, response: ClientResponse, verb: str) -> None:
        status = response.status
        if status == 200:
            return
        quoted = (await response.content.read(2_000)).decode(errors="replace")
        text = f"cannot {verb} {self.identity['address']} at {self._base}: HTTP {status} "
        text += " ".join(quoted.split())[:_QUOTED_CHARACTERS]
        if status >= 500 or status in _TRANSIENT:
            raise SourceUnavailableError(text)
        if 300 <= status < 400:
            raise SourceError(f"{text}; redirects are not followed, correct {self._settings.variable('endpoint_url')}")
        if status == 404:
            raise SourceError(f"{text}; correct repository and ref")
        names = f"{self._settings.variable('access_key')} and {self._settings.variable('secret_key')}"
        raise SourceError(f"{text}; check {names}, and what the key may do")

    @contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, OSError, TimeoutError) as error:
            why = str(error) or f"no response within {self._timeout_s:g} s (replay.read_timeout_s)"
            raise SourceUnavailableError(
                f"cannot {verb} {self.identity['address']} at {self._base}: {why}; is it up and reachable?"
            ) from error


async def _bounded(response: ClientResponse, most_bytes: int) -> bytes:
    """Return the body; of one that is too long, one byte more than ``most_bytes`` at least."""
    data = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        data += chunk
        if len(data) > most_bytes:
            break
    return bytes(data)


def _moment(mtime: object) -> datetime | None:
    return datetime.fromtimestamp(mtime, UTC) if isinstance(mtime, int) and 0 < mtime < 4_000_000_000 else None
