"""Lists, reads, uploads, links and removes the objects of one repository."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from infra.lakefs.entries import LakeFsDownload, LakeFsObject
from infra.lakefs.errors import LakeFsObjectMissingError, LakeFsTooLargeError, LakeFsUnavailableError
from infra.lakefs.requests import PAGE, LakeFsRequests
from infra.network.responses import read_bounded

BINARY = "application/octet-stream"
_CHUNK_BYTES = 1 << 20
_LEAST_BYTES_PER_S = 100_000
_METADATA_HEADER = "x-lakefs-meta-"


class LakeFsObjects:
    """Reaches the objects of one repository.

    Every method raises LakeFsUnavailableError (the same call may succeed later), LakeFsRefusedError (a person must
    act) and LakeFsRequestError (it never succeeds).
    """

    def __init__(self, requests: LakeFsRequests) -> None:
        self._requests = requests

    async def find(self, ref: str, path: str) -> LakeFsObject | None:
        """Return the object at ``path`` of ``ref``; None when there is none. Its bytes may be gone all the same.

        A branch reads with its uncommitted changes, a branch with an ``@`` after its name without them.
        """
        what = f"look up {ref}/{path}"
        query = {"path": path, "presign": "false", "user_metadata": "true"}
        try:
            data = await self._requests.json("GET", f"/refs/{quote(ref, safe='')}/objects/stat", what, query)
        except LakeFsObjectMissingError:
            return None
        return LakeFsObject.from_json(self._requests.parsed(what, data, "path"))

    async def listed(
        self, ref: str, prefix: str = "", *, after: str = "", metadata: bool = False
    ) -> AsyncIterator[LakeFsObject]:
        """Yield the objects whose paths begin with ``prefix`` and come after ``after``, by path."""
        what, path = f"list {ref}/{prefix}", f"/refs/{quote(ref, safe='')}/objects/ls"
        query = {"prefix": prefix, "presign": "false", "user_metadata": "true" if metadata else "false"}
        async for entry in self._requests.listed(path, what, query, "path", after=after):
            yield LakeFsObject.from_json(entry)

    async def read(self, ref: str, path: str, most_bytes: int) -> bytes:
        """Return the bytes at ``path``.

        Raises LakeFsObjectMissingError, LakeFsObjectGoneError when its bytes were deleted, and LakeFsTooLargeError.
        """
        what = f"read {ref}/{path}"
        async with self.download(ref, path) as download:
            if download.size_bytes is not None and download.size_bytes > most_bytes:
                raise _too_large(what, download.size_bytes, most_bytes)
            data = bytearray()
            async for chunk in download.chunks:
                data += chunk
                if len(data) > most_bytes:
                    raise _too_large(what, len(data), most_bytes)
        if download.size_bytes not in (None, len(data)):
            raise LakeFsUnavailableError(f"cannot {what}: {len(data)} of {download.size_bytes} bytes came")
        return bytes(data)

    @asynccontextmanager
    async def download(self, ref: str, path: str) -> AsyncIterator[LakeFsDownload]:
        """Give the bytes at ``path`` as they arrive; raises the errors of :meth:`read`."""
        what = f"read {ref}/{path}"
        query = {"path": path, "presign": "false"}
        async with self._requests.opened(f"/refs/{quote(ref, safe='')}/objects", what, query) as response:
            chunks = self._requests.chunks(response, what, _CHUNK_BYTES)
            yield LakeFsDownload(response.content_length, chunks)

    async def can_read(self, ref: str, path: str) -> bool:
        """Whether the server can read the bytes at ``path``, of which it fetches one."""
        what = f"read {ref}/{path}"
        query = {"path": path, "presign": "false"}
        where = f"/refs/{quote(ref, safe='')}/objects"
        try:
            async with self._requests.opened(where, what, query, headers={"Range": "bytes=0-0"}) as response:
                return bool(await read_bounded(response, 1))
        except (LakeFsObjectMissingError, LakeFsUnavailableError):
            return False

    async def upload(
        self,
        branch: str,
        path: str,
        data: bytes,
        *,
        media_type: str = BINARY,
        metadata: Mapping[str, str] | None = None,
        only_new: bool = False,
    ) -> bool:
        """Write ``data`` to ``path``; with ``only_new`` return False, and change nothing, when something is there.

        The same bytes with the same metadata as those that are there change nothing for good: bytes that were lost or
        damaged are only replaced when the metadata differs.
        """
        limit_s = self._requests.access.timeout_s + len(data) / _LEAST_BYTES_PER_S
        try:
            async with asyncio.timeout(limit_s):
                return await self.send(branch, path, data, media_type=media_type, metadata=metadata, only_new=only_new)
        except TimeoutError as error:
            raise self._too_slow(branch, path, limit_s) from error

    async def upload_file(
        self, branch: str, path: str, file: Path, *, media_type: str, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Write the content of ``file``, with memory that its size does not change."""
        size = (await asyncio.to_thread(file.stat)).st_size
        limit_s = self._requests.access.timeout_s + size / _LEAST_BYTES_PER_S
        body = await asyncio.to_thread(file.open, "rb")
        try:
            async with asyncio.timeout(limit_s):
                await self.send(branch, path, body, media_type=media_type, metadata=metadata)
        except TimeoutError as error:
            raise self._too_slow(branch, path, limit_s) from error
        finally:
            await asyncio.to_thread(body.close)

    async def send(
        self,
        branch: str,
        path: str,
        body: Any,
        *,
        media_type: str = BINARY,
        metadata: Mapping[str, str] | None = None,
        only_new: bool = False,
    ) -> bool:
        """Write ``body`` (bytes, or a file) as :meth:`upload` does; the caller limits the time."""
        headers = {"Content-Type": media_type}
        headers |= {f"{_METADATA_HEADER}{name}": value for name, value in (metadata or {}).items()}
        if only_new:
            headers["If-None-Match"] = "*"
        return await self._requests.send(
            "POST",
            f"/branches/{quote(branch, safe='')}/objects",
            f"write {branch}/{path}",
            {"path": path},
            conditional=only_new,
            data=body,
            headers=headers,
        )

    async def link(
        self,
        branch: str,
        path: str,
        *,
        address: str,
        checksum: str,
        size_bytes: int,
        media_type: str,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Let ``path`` name the object at ``address`` of the object store, without copying its bytes.

        LakeFS checks nothing: neither that the object exists, nor its size. Check it before. The address must be
        outside of the repository's own ``data/``.
        """
        body = {
            "staging": {"physical_address": address},
            "checksum": checksum,
            "size_bytes": size_bytes,
            "content_type": media_type,
            "user_metadata": dict(metadata or {}),
        }
        what = f"link {branch}/{path} to {address}"
        where = f"/branches/{quote(branch, safe='')}/staging/backing"
        await self._requests.json("PUT", where, what, {"path": path}, json=body)

    async def remove(self, branch: str, paths: Sequence[str]) -> None:
        """Remove objects from the branch; one that is missing is no error. Frees no bytes."""
        where = f"/branches/{quote(branch, safe='')}/objects/delete"
        for first in range(0, len(paths), PAGE):
            some = list(paths[first : first + PAGE])
            what = f"remove {len(some)} objects of {branch}"
            data = await self._requests.json("POST", where, what, json={"paths": some})
            for error in (data or {}).get("errors") or ():
                status = int(error.get("status_code") or 500)
                if status != 404:
                    raise self._requests.error_for_status(what, status, str(error.get("message") or ""))

    def _too_slow(self, branch: str, path: str, limit_s: float) -> LakeFsUnavailableError:
        return LakeFsUnavailableError(
            f"cannot write {branch}/{path} in {self._requests.where}: no response within {limit_s:.3g} s "
            f"({self._requests.access.variable('timeout_s')}); is it up and reachable?"
        )


def _too_large(what: str, size: int, most_bytes: int) -> LakeFsTooLargeError:
    return LakeFsTooLargeError(f"cannot {what}: it has {size} bytes or more; at most {most_bytes} are read", size)
