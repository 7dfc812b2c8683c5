"""Keeps blobs in a LakeFS repository: objects over its REST API, commits over its client library in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from lakefs_sdk import ApiClient, BranchesApi, CommitCreation, CommitsApi, Configuration, ObjectsApi
from lakefs_sdk.exceptions import ApiException
from urllib3.exceptions import HTTPError

from detectors.errors import ModelStoreError, ModelStoreUnavailableError
from detectors.settings import ModelStoreSettings
from detectors.store.blobs import Download, OnTransfer
from detectors.store.web import Web, transfer_of_key

_API = "/api/v1"
_PAGE = 1000
_NOTHING_NEW = "no changes"
_BINARY = {"Content-Type": "application/octet-stream"}


class LakeFsBlobs:
    """Keeps objects ``<prefix>/name/version/file`` of one ref; see :class:`detectors.store.blobs.Blobs`.

    Reading a branch includes its uncommitted objects. A tag or a commit can be read, but not written.
    """

    def __init__(self, settings: ModelStoreSettings) -> None:
        """Connects at the first call."""
        # Checked when settings are read: LakeFS has no default address and no anonymous access.
        if settings.endpoint_url is None or settings.access_key is None or settings.secret_key is None:
            raise ModelStoreError("models.endpoint_url, access_key and secret_key are all needed for LakeFS")
        key, secret = settings.access_key.get_secret_value(), settings.secret_key.get_secret_value()
        self._settings = settings
        self._base = settings.endpoint_url.rstrip("/").removesuffix(_API)
        self._prefix = f"{settings.prefix.strip('/')}/".lstrip("/")
        self._web = Web(self._base, settings, key, secret)
        configuration = Configuration(host=self._base + _API, username=key, password=secret)
        # No retries and no redirects: the caller retries, and redirects are not wanted.
        configuration.retries = False
        self._client = ApiClient(configuration)
        self._branch_checked = False

    @property
    def where(self) -> str:
        """Repository, ref and prefix, as LakeFS writes them."""
        return f"lakefs://{self._settings.repository}/{self._settings.ref}/{self._prefix}".rstrip("/")

    async def keys(self) -> Sequence[str]:
        """Return all objects below the prefix."""
        return [key async for key in self._listing()]

    def read(self, key: str) -> AbstractAsyncContextManager[Download]:
        """Read the object's bytes through the server."""
        return self._web.download("GET", self._objects("refs", key))

    async def write(self, key: str, file: Path, on_transfer: OnTransfer) -> None:
        """Upload the file; the object appears on the branch when it is complete."""
        await self._check_branch()
        path = self._objects("branches", key)
        await self._web.upload(
            path, file, lambda data: {"data": data, "headers": _BINARY}, transfer_of_key(key, on_transfer)
        )

    async def put(self, key: str, data: bytes, *, new: bool) -> bool:
        """Upload the bytes; with ``new`` the server refuses an existing object."""
        await self._check_branch()
        headers = {**_BINARY, "If-None-Match": "*"} if new else _BINARY
        return await self._web.post(self._objects("branches", key), data=data, headers=headers) != 412

    async def commit_changes(self, message: str) -> None:
        """Commit what is on the branch; a branch without changes is fine."""
        commit = CommitCreation(message=message, metadata={"source": "standgale"})
        await self._call("commit", CommitsApi(self._client).commit, commit)

    async def close(self) -> None:
        """Close all connections."""
        await self._web.close()
        await asyncio.to_thread(self._client.rest_client.pool_manager.clear)

    def _objects(self, kind: str, key: str) -> str:
        repository, ref = quote(self._settings.repository, safe=""), quote(self._settings.ref, safe="")
        query = urlencode({"path": self._prefix + key}, quote_via=quote)
        return f"{_API}/repositories/{repository}/{kind}/{ref}/objects?{query}"

    async def _listing(self) -> AsyncIterator[str]:
        after = ""
        while True:
            page = await self._call(
                "list", ObjectsApi(self._client).list_objects, prefix=self._prefix, after=after, amount=_PAGE
            )
            for found in page.results:
                yield found.path.removeprefix(self._prefix)
            if not page.pagination.has_more:
                return
            after = page.pagination.next_offset

    async def _check_branch(self) -> None:
        """Raise ModelStoreError, before a long upload, when the ref cannot be written to."""
        if not self._branch_checked:
            await self._call("find the branch", BranchesApi(self._client).get_branch)
            self._branch_checked = True

    async def _call(self, verb: str, method: Callable[..., Any], *more: object, **options: object) -> Any:
        """Call ``method`` for this repository and ref; return None when there is nothing to commit."""
        settings = self._settings
        options["_request_timeout"] = settings.timeout_s
        try:
            return await asyncio.to_thread(method, settings.repository, settings.ref, *more, **options)
        except ApiException as error:
            response = str(error.body or error.reason or "")
            if error.status == 400 and _NOTHING_NEW in response:
                return None
            if error.status == 404:
                raise ModelStoreError(
                    f"cannot {verb} at {self._base}: {self.where} does not exist; correct STANDGALE_MODELS__REPOSITORY "
                    "and __REF (to publish, a branch)"
                ) from error
            raise self._web.error_for_status(verb, error.status, response) from error
        except (HTTPError, OSError) as error:
            raise ModelStoreUnavailableError(
                f"cannot {verb} in {self.where} at {self._base}: {error}; is it up and reachable?"
            ) from error
