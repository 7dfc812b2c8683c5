"""Sends requests to one LakeFS server: no redirects, bounded responses, time limits, errors by their cause.

LakeFS serves its web page for every path that it does not know, with status 200; so a response is only believed when
it has the media type of the API.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import quote

import orjson
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from yarl import URL

from infra.lakefs.access import API, LakeFsAccess
from infra.lakefs.errors import (
    LakeFsAddressError,
    LakeFsConflictError,
    LakeFsNotFoundError,
    LakeFsObjectGoneError,
    LakeFsObjectMissingError,
    LakeFsProtectedError,
    LakeFsRefusedError,
    LakeFsRequestError,
    LakeFsUnavailableError,
)
from infra.network.responses import read_bounded
from schemas.errors import StandgaleError

PAGE = 1_000
"""The most entries of one page; LakeFS refuses to return more."""
_CONNECTIONS = 32
_MOST_JSON_BYTES = 16 << 20
_QUOTED_CHARACTERS = 200
_ERROR_BYTES = 4_000
# 409 and 412: somebody changed the branch at the same moment; where a name may be taken, `create` looks for 409 first.
_TRANSIENT = (408, 409, 412, 423, 425, 429)
Query = Mapping[str, str]


class LakeFsRequests:
    """Sends requests about one repository. Use it from one event loop; it connects at the first request."""

    def __init__(self, access: LakeFsAccess) -> None:
        self.access = access
        pair = f"{access.access_key.get_secret_value()}:{access.secret_key.get_secret_value()}"
        # Without compression, sizes are those of the objects, and a small response cannot unpack into a large one.
        self._headers = {
            "Accept-Encoding": "identity",
            "Authorization": f"Basic {b64encode(pair.encode()).decode()}",
        }
        self._session: ClientSession | None = None

    @property
    def where(self) -> str:
        """The repository and its server, for texts."""
        return f"lakefs://{self.access.repository} at {self.access.endpoint_url}"

    async def json(self, method: str, path: str, what: str, query: Query | None = None, **request: Any) -> Any:
        """Return the JSON of the response, None where it has none (204). ``what`` says what is done, for errors."""
        with self._translated(what):
            async with asyncio.timeout(self.access.timeout_s), self._request(method, path, query, request) as response:
                await self._require_success(response, what)
                if response.status == 204:
                    return None
                self._require_json(response, what)
                data = await read_bounded(response, _MOST_JSON_BYTES)
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise self._other_server(what, "its JSON cannot be read") from error

    async def listed(
        self, path: str, what: str, query: Query, *names: str, after: str = "", page: int = PAGE
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the entries of a list after ``after``, each with ``names``; one request for every ``page`` of them."""
        seen = {"", after}
        while True:
            data = await self.json("GET", path, what, {**query, "after": after, "amount": str(min(page, PAGE))})
            found = self.parsed(what, data, "results", "pagination")
            for entry in found["results"]:
                yield self.parsed(what, entry, *names)
            pagination = self.parsed(what, found["pagination"], "has_more")
            if not pagination["has_more"]:
                return
            after = str(pagination.get("next_offset") or "")
            if after in seen:
                raise LakeFsUnavailableError(f"cannot {what} in {self.where}: the list does not go on")
            seen.add(after)

    async def send(self, method: str, path: str, what: str, query: Query, *, conditional: bool, **request: Any) -> bool:
        """Send a body, without a time limit of its own; return False when ``conditional`` and it is there already."""
        with self._translated(what):
            async with self._request(method, path, query, request) as response:
                if conditional and response.status == 412:
                    return False
                await self._require_success(response, what)
                self._require_json(response, what)
                await read_bounded(response, _MOST_JSON_BYTES)
        return True

    async def create(self, path: str, what: str, body: Mapping[str, str]) -> None:
        """Create a branch or a tag; the response to the first is a text, that to the second is JSON.

        Raises LakeFsConflictError when there is one of that name.
        """
        with self._translated(what):
            async with (
                asyncio.timeout(self.access.timeout_s),
                self._request("POST", path, None, {"json": dict(body)}) as response,
            ):
                if response.status == 409:
                    raise LakeFsConflictError(f"cannot {what} in {self.where}: HTTP 409, that name is taken")
                await self._require_success(response, what)
                if response.status != 201:
                    raise self._other_server(what, f"HTTP {response.status} instead of 201")
                await read_bounded(response, _MOST_JSON_BYTES)

    @asynccontextmanager
    async def opened(self, path: str, what: str, query: Query, **request: Any) -> AsyncIterator[ClientResponse]:
        """Give the response with the bytes of an object, whose headers came in time."""
        with self._translated(what):
            async with asyncio.timeout(self.access.timeout_s):
                response = await self._request("GET", path, query, request)
        async with response:
            with self._translated(what):
                await self._require_success(response, what)
            yield response

    async def chunks(self, response: ClientResponse, what: str, size: int) -> AsyncIterator[bytes]:
        """Yield the bytes of ``response`` as they arrive."""
        chunks = response.content.iter_chunked(size)
        while True:
            with self._translated(what):
                chunk = await anext(chunks, b"")
            if not chunk:
                return
            yield chunk

    async def close(self) -> None:
        """Close all connections; may be repeated."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def parsed(self, what: str, data: Any, *names: str) -> Mapping[str, Any]:
        """Return ``data`` if it is an object with ``names``; raise LakeFsAddressError otherwise."""
        if not isinstance(data, dict) or any(name not in data for name in names):
            raise self._other_server(what, f"its JSON lacks {' and '.join(names)}")
        return data

    def error_for_status(self, what: str, status: int, message: str) -> StandgaleError:
        """Return the error for ``status``, by what has to be done about it."""
        variable = self.access.variable
        quoted = " ".join(message.split())[:_QUOTED_CHARACTERS]
        text = f"cannot {what} in {self.where}: HTTP {status} {quoted}".rstrip()
        if status >= 500 or status in _TRANSIENT:
            return LakeFsUnavailableError(text)
        if status == 403 and "protected" in message.lower():
            return LakeFsProtectedError(
                f"{text}; the branch is protected: choose another one, or take the rule off it in the repository's "
                "settings (Branches)"
            )
        if status in (401, 403):
            keys = f"{variable('access_key')} and {variable('secret_key')}"
            return LakeFsRefusedError(f"{text}; check {keys}, and what that key may do")
        if status == 410:
            return LakeFsObjectGoneError(f"{text}; its bytes were deleted")
        if status == 404:
            return self._missing(text, message)
        if 300 <= status < 400:
            return LakeFsAddressError(f"{text}; redirects are not followed, correct {variable('endpoint_url')}")
        if status == 405:
            return LakeFsAddressError(f"{text}; it is no API of LakeFS, correct {variable('endpoint_url')}")
        return LakeFsRequestError(text)

    def _missing(self, text: str, message: str) -> StandgaleError:
        """Return the error for 404: a setting is wrong, unless only the object is missing."""
        lowered = message.lower()
        if "repository" in lowered:
            return LakeFsNotFoundError(
                f"{text}; create the repository, or correct {self.access.variable('repository')}"
            )
        if any(word in lowered for word in ("branch", "tag", "ref", "commit")):
            return LakeFsNotFoundError(f"{text}; there is no such branch, tag or commit")
        return LakeFsObjectMissingError(text)

    async def _require_success(self, response: ClientResponse, what: str) -> None:
        if not 200 <= response.status < 300:
            body = (await response.content.read(_ERROR_BYTES)).decode(errors="replace")
            raise self.error_for_status(what, response.status, _message_in(body))

    def _require_json(self, response: ClientResponse, what: str) -> None:
        if response.content_type != "application/json":
            raise self._other_server(what, f"the response has the media type {response.content_type}")

    def _other_server(self, what: str, why: str) -> LakeFsAddressError:
        return LakeFsAddressError(
            f"cannot {what} in {self.where}: it does not respond as the API of LakeFS does ({why}); correct "
            f"{self.access.variable('endpoint_url')}, which is the server's address without a path"
        )

    def _request(self, method: str, path: str, query: Query | None, request: Mapping[str, Any]) -> Any:
        repository = quote(self.access.repository, safe="")
        text = f"{self.access.endpoint_url}{API}/repositories/{repository}{path}"
        if query:
            text += "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        if self._session is None:
            timeout_s = self.access.timeout_s
            self._session = ClientSession(
                connector=TCPConnector(limit=_CONNECTIONS),
                cookie_jar=DummyCookieJar(),
                headers=self._headers,
                auto_decompress=False,
                timeout=ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s),
            )
        return self._session.request(method, URL(text, encoded=True), allow_redirects=False, **request)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, OSError, TimeoutError) as error:
            limit = f"{self.access.timeout_s:g} s ({self.access.variable('timeout_s')})"
            why = str(error) or f"no response within {limit}"
            raise LakeFsUnavailableError(f"cannot {what} in {self.where}: {why}; is it up and reachable?") from error


def _message_in(body: str) -> str:
    """Return the message of an error's JSON, else the body itself."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    message = found.get("message") if isinstance(found, dict) else None
    return message if isinstance(message, str) else body
