"""Sends HTTP requests to a model store: one address, no redirects, bounded responses, errors by their cause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar
from yarl import URL

from detectors.errors import ModelStoreError, ModelStoreUnavailableError
from detectors.settings import ModelStoreSettings
from detectors.store.blobs import CHUNK_BYTES, BlobMissingError, CountingReader, Download, OnTransfer
from detectors.store.progress_deadline import progress_deadline
from schemas.errors import StandgaleError

_QUOTED_CHARACTERS = 200
_RESPONSE_BYTES = 10_000
_MISSING = (404, 410)
_TRANSIENT = (408, 423, 425, 429)

Body = Callable[[CountingReader], dict[str, Any]]
"""Converts a file to the arguments of a request."""


class Web:
    """Sends requests to one server only. Use it from one event loop."""

    def __init__(self, base: str, settings: ModelStoreSettings) -> None:
        """Connects at the first request. ``base`` is the server's address, without a / at its end."""
        self._base = base
        self._timeout_s = settings.timeout_s
        self._session: ClientSession | None = None

    @asynccontextmanager
    async def download(self, method: str, path: str, **request: Any) -> AsyncIterator[Download]:
        """Read the body of a response. Raises BlobMissingError when the server has none (404, 410)."""
        with self._translated(f"read {path}"):
            response = await self._open_session().request(method, self._url(path), allow_redirects=False, **request)
        async with response:
            if response.status in _MISSING:
                raise BlobMissingError(path)
            with self._translated(f"read {path}"):
                await self._raise_for_status(path, response)
            yield Download(response.content_length, self._chunks(path, response))

    async def post(self, path: str, **request: Any) -> None:
        """Send a small request."""
        with self._translated(f"write {path}"):
            async with asyncio.timeout(self._timeout_s):
                await self._post(path, request)

    async def upload(self, path: str, file: Path, body: Body, moved: Callable[[int, int], None]) -> None:
        """Send ``file``; ``moved`` is called with the bytes sent and the bytes in all. Gives up without progress."""
        total = file.stat().st_size
        with self._translated(f"write {path}"):
            async with progress_deadline(self._timeout_s) as on_progress:

                def on_read(count: int) -> None:
                    on_progress()
                    moved(count, total)

                with CountingReader(file, on_read) as reader:
                    await self._post(path, body(reader))

    async def close(self) -> None:
        """Close all connections; may be repeated."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        """Turn errors of client and network into ModelStoreUnavailableError that says what to check."""
        try:
            yield
        except (ClientError, OSError, TimeoutError) as error:
            why = str(error) or f"no progress for {self._timeout_s} s (STANDGALE_MODELS__TIMEOUT_S)"
            raise ModelStoreUnavailableError(
                f"cannot {verb} in the model store at {self._base}: {why}; is it up and reachable?"
            ) from error

    def _error_for_status(self, verb: str, status: int, body: str) -> StandgaleError:
        """Return the error for a response with ``status``: a transient one, or one that a person must solve."""
        quoted = " ".join(body.split())[:_QUOTED_CHARACTERS]
        text = f"the model store at {self._base} does not {verb}: HTTP {status} {quoted}".rstrip()
        if status >= 500 or status in _TRANSIENT:
            return ModelStoreUnavailableError(f"{text}; try again")
        if 300 <= status < 400:
            return ModelStoreError(f"{text}; redirects are not followed, correct STANDGALE_MODELS__ENDPOINT_URL")
        return ModelStoreError(f"{text}; check STANDGALE_MODELS__*")

    async def _post(self, path: str, request: dict[str, Any]) -> None:
        url = self._url(path)
        async with self._open_session().post(url, allow_redirects=False, **request) as response:
            await self._raise_for_status(path, response, "take")

    async def _raise_for_status(self, path: str, response: ClientResponse, verb: str = "give") -> None:
        if not 200 <= response.status < 300:
            body = (await response.content.read(_RESPONSE_BYTES)).decode(errors="replace")
            raise self._error_for_status(f"{verb} {path}", response.status, body)

    async def _chunks(self, path: str, response: ClientResponse) -> AsyncIterator[bytes]:
        chunks = response.content.iter_chunked(CHUNK_BYTES)
        while True:
            with self._translated(f"read {path}"):
                chunk = await anext(chunks, b"")
            if not chunk:
                return
            yield chunk

    def _url(self, path: str) -> URL:
        return URL(self._base + path, encoded=True)

    def _open_session(self) -> ClientSession:
        if self._session is None:
            self._session = ClientSession(
                cookie_jar=DummyCookieJar(),
                # Without compression, sizes are those of files, and a small response cannot unpack into a large one.
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,
                timeout=ClientTimeout(total=None, connect=self._timeout_s, sock_read=self._timeout_s),
            )
        return self._session


def transfer_of_key(key: str, on_transfer: OnTransfer) -> Callable[[int, int], None]:
    """Return ``on_transfer`` for one key."""
    return lambda moved, total: on_transfer(key, moved, total)
