"""Stores frames in an S3 bucket: for production, shared by all machines."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from botocore.exceptions import ClientError

from infra.error_groups import first_error
from infra.errors import ImageMissingError, StoreUnavailableError
from infra.process.monotonic import monotonic_s
from infra.storage.file_digests import file_digest
from infra.storage.frames.addressing import (
    ContentAddress,
    StoredContent,
    outside_error,
    require_digest,
    verify,
    wrong_size_error,
)
from infra.storage.frames.port import REFRESH_AFTER_S, StoredObject
from infra.storage.s3_client import S3Connection, says_missing, status_of
from infra.storage.s3_download import LEAST_BYTES_PER_S, download
from infra.storage.s3_errors import store_text, translated
from infra.storage.settings import FrameSettings
from schemas.events import ImageRef

_PROBE = ".probe"
_SWEPT = ".sweep"
"""The folder of marks, one for each object that retention may remove at any moment."""
_MARK_LASTS_S = 600.0
_HTTP_MISSING = 404
_HTTP_EXISTS = 412
# Of all look-ups of one call; the client has 32 connections for everything.
_LOOKUPS = 16
# Hashing releases the interpreter lock but blocks the event loop; above this size a thread is worth its cost.
_HASH_IN_THREAD_BYTES = 1_000_000


class S3FrameStore:
    """Stores frames as objects ``s3://bucket/prefix/ab/<sha256>.<ext>``; :class:`FrameStore` has the contract."""

    def __init__(self, settings: FrameSettings, spool: Path) -> None:
        """Connect nothing before the first call, so that a service can start while the store is unavailable.

        ``spool``: a local folder for large images that are read in parts.
        """
        self._spool = spool
        self._settings = settings
        self._prefix = f"{settings.prefix.strip('/')}/".lstrip("/")
        self._uri = f"s3://{settings.bucket}/{self._prefix}"
        self._connection = S3Connection(settings)
        self._conditional: bool | None = None
        self._finding_out = asyncio.Lock()

    async def put(self, data: bytes, *, sha256: str, media_type: str) -> str:
        """Store ``data``, or renew the time of the object that has it already, and return its ``s3:`` uri.

        The server gets the hash, and refuses bytes that were damaged in transfer.
        """
        address = ContentAddress.of(sha256, media_type)
        large = len(data) >= _HASH_IN_THREAD_BYTES
        md5 = await asyncio.to_thread(_md5, data) if large else _md5(data)
        return await self._put(address, self._parameters(address, data, md5, media_type), len(data))

    async def put_file(self, path: Path, *, sha256: str, media_type: str) -> str:
        """Store a file as :meth:`put` does."""
        address = ContentAddress.of(sha256, media_type)
        digest, size_bytes = await asyncio.to_thread(file_digest, path, "md5")
        with await asyncio.to_thread(path.open, "rb") as file:
            parameters = self._parameters(address, file, b64encode(digest).decode(), media_type)
            return await self._put(address, parameters | {"ContentLength": size_bytes}, size_bytes)

    @asynccontextmanager
    async def local(self, image: StoredContent) -> AsyncIterator[Path]:
        """Give a copy of the object, which is removed afterwards."""
        async with self._translated("read", size_bytes=image.size_bytes), self._opened(image) as response:
            path, found = await download(response, self._spool)
        try:
            require_digest(image, found)
            yield path
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def get(self, image: ImageRef) -> bytes:
        """Return the bytes of ``image`` after checking their hash."""
        async with (
            self._translated("read", size_bytes=image.size_bytes),
            self._opened(image) as response,
            response["Body"] as body,
        ):
            data: bytes = await body.read()
        if len(data) < _HASH_IN_THREAD_BYTES:
            return verify(image, data)
        return await asyncio.to_thread(verify, image, data)

    async def find(self, digests: Collection[str]) -> Mapping[str, StoredObject]:
        """Return the objects with ``digests``, by digest; see the port."""
        addresses = {digest: ContentAddress.all_of(digest) for digest in digests}
        turns = asyncio.Semaphore(_LOOKUPS)
        found: dict[str, StoredObject] = {}

        async def look_up(digest: str, places: tuple[ContentAddress, ...]) -> None:
            async with turns:
                for address in places:
                    head = await self._head(self._prefix + address.relative)
                    if head is not None:
                        modified_at = head["LastModified"].astimezone(UTC)
                        found[digest] = StoredObject(
                            f"{self._uri}{address.relative}", head["ContentLength"], modified_at
                        )
                        return

        try:
            async with asyncio.TaskGroup() as tasks:
                for digest, places in addresses.items():
                    tasks.create_task(look_up(digest, places))
        except ExceptionGroup as group:
            # One outage fails them all; the others say the same.
            error = first_error(group)
            raise error from error.__cause__
        return found

    async def delete(self, uri: str) -> None:
        """Remove the object at ``uri``; raises ImageMissingError for an address outside this store."""
        address = self._key(uri)
        client = await self._connection.client()
        async with self._translated("delete in"):
            await client.delete_object(Bucket=self._settings.bucket, Key=self._prefix + address.relative)

    async def delete_older(self, uri: str, cutoff: datetime) -> bool:
        """Remove the object at ``uri`` unless it is younger than ``cutoff``; see the port.

        A mark says that it may be removed at any moment; a put of the same content looks for marks after its upload. So
        either the put sees the mark, or this call sees the new time of the object. Each call has a mark of its own: the
        end of one must not hide another one.
        """
        address = self._key(uri)
        client = await self._connection.client()
        where = {"Bucket": self._settings.bucket, "Key": self._prefix + address.relative}
        mark = where | {"Key": f"{self._marks(address)}/{uuid4().hex}"}
        began_s = monotonic_s()
        async with self._translated("delete in"):
            await client.put_object(**mark, Body=b"")
        found = await self._head(where["Key"])
        # An old mark counts as that of a process that was killed: then it is too late to remove the object.
        old = found is not None and found["LastModified"] < cutoff and monotonic_s() - began_s < _MARK_LASTS_S / 2
        async with self._translated("delete in"):
            if old:
                await client.delete_object(**where)
            # Not reached when it is unknown whether the object was deleted: then a put has to see the mark.
            await client.delete_object(**mark)
        return old

    async def objects(self) -> AsyncIterator[StoredObject]:
        """Yield every object in the order of the hashes; one that changes at that time may or may not appear."""
        client = await self._connection.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self._settings.bucket, Prefix=self._prefix)
        async with self._translated("list", deadline=False):
            async for page in pages:
                for entry in page.get("Contents", ()):
                    address = ContentAddress.in_path(entry["Key"])
                    if address is not None and entry["Key"] == self._prefix + address.relative:
                        modified_at = entry["LastModified"].astimezone(UTC)
                        yield StoredObject(f"{self._uri}{address.relative}", entry["Size"], modified_at)

    async def check(self) -> None:
        """Write a small object and read it back; an error says whether bucket, keys or network are the cause."""
        client = await self._connection.client()
        key = self._prefix + _PROBE
        async with self._translated("write to"):
            await client.put_object(Bucket=self._settings.bucket, Key=key, Body=b"standgale")
        async with self._translated("read from"):
            response = await client.get_object(Bucket=self._settings.bucket, Key=key)
            async with response["Body"] as body:
                await body.read()

    async def close(self) -> None:
        """Close all connections."""
        await self._connection.close()

    @asynccontextmanager
    async def _opened(self, image: StoredContent) -> AsyncIterator[Mapping[str, Any]]:
        """Give the response with the object of ``image``, which has its size. Raises ImageMissingError."""
        key = self._key(image.uri)
        if key.sha256 != image.sha256:
            raise outside_error(image.uri, self._uri)
        client = await self._connection.client()
        try:
            response = await client.get_object(Bucket=self._settings.bucket, Key=self._prefix + key.relative)
        except ClientError as error:
            if not says_missing(error):
                raise
            raise ImageMissingError(
                f"the frame store has no object {image.uri}: it was removed (retention), or the gateway writes to "
                "a different bucket; compare STANDGALE_FRAMES__BUCKET and __ENDPOINT_URL of both services"
            ) from error
        # Before reading: a damaged object must not take more memory than the event says.
        if response["ContentLength"] != image.size_bytes:
            response["Body"].close()
            raise wrong_size_error(image, response["ContentLength"])
        yield response

    async def _put(self, address: ContentAddress, upload: Mapping[str, Any], size_bytes: int) -> str:
        # A versioned bucket would keep every repetition, so an object is replaced only when it is old.
        only_new = {**upload, "IfNoneMatch": "*"}
        fresh = await self._supports_conditions() and (
            await self._upload(only_new, size_bytes) or not await self._is_old(address)
        )
        if not fresh:
            # This may replace an old object.
            await self._upload(upload, size_bytes)
            await self._await_sweep(address)
        return f"{self._uri}{address.relative}"

    def _parameters(self, address: ContentAddress, data: bytes | BinaryIO, md5: str, media_type: str) -> dict[str, Any]:
        return {
            "Bucket": self._settings.bucket,
            "Key": self._prefix + address.relative,
            "Body": data,
            "ContentType": media_type,
            # Some servers check the first, some the second.
            "ContentMD5": md5,
            "ChecksumSHA256": b64encode(bytes.fromhex(address.sha256)).decode(),
        }

    async def _upload(self, parameters: Mapping[str, Any], size_bytes: int = 0) -> bool:
        """Upload; return False when the upload may only create an object, and it exists already."""
        client = await self._connection.client()
        body = parameters["Body"]
        if not isinstance(body, bytes):
            # It may have been read for an upload that was refused.
            body.seek(0)
        async with self._translated("write", size_bytes=size_bytes):
            try:
                await client.put_object(**parameters)
            except ClientError as error:
                if status_of(error) != _HTTP_EXISTS:
                    raise
                return False
        return True

    async def _supports_conditions(self) -> bool:
        """Whether the server supports "If-None-Match"; it is tried once."""
        async with self._finding_out:
            if self._conditional is None:
                probe = {"Bucket": self._settings.bucket, "Key": self._prefix + _PROBE, "Body": b"standgale"}
                await self._upload(probe)
                self._conditional = not await self._upload(probe | {"IfNoneMatch": "*"})
            return self._conditional

    async def _is_old(self, address: ContentAddress) -> bool:
        """Whether the object needs a new time."""
        found = await self._head(self._prefix + address.relative)
        return found is None or _age_s(found, found["LastModified"]) > REFRESH_AFTER_S

    async def _await_sweep(self, address: ContentAddress) -> None:
        """Check that retention, which may have seen the former time of the uploaded object, does not remove it.

        Raises StoreUnavailableError when it is about to remove it, or has removed it: the put is then tried again.
        """
        client = await self._connection.client()
        async with self._translated("list"):
            page = await client.list_objects_v2(Bucket=self._settings.bucket, Prefix=self._marks(address))
        newest = max((entry["LastModified"] for entry in page.get("Contents", ())), default=None)
        marked = newest is not None and _age_s(page, newest) < _MARK_LASTS_S
        if marked or await self._head(self._prefix + address.relative) is None:
            raise self._unavailable("write", f"retention is removing {address.relative} now; it is tried again")

    async def _head(self, key: str) -> Mapping[str, Any] | None:
        client = await self._connection.client()
        async with self._translated("read from"):
            try:
                found: Mapping[str, Any] = await client.head_object(Bucket=self._settings.bucket, Key=key)
            except ClientError as error:
                if status_of(error) != _HTTP_MISSING:
                    raise
                return None
            return found

    def _marks(self, address: ContentAddress) -> str:
        return f"{self._prefix}{_SWEPT}/{address.sha256}"

    def _key(self, uri: str) -> ContentAddress:
        address = ContentAddress.in_path(uri) if uri.startswith(self._uri) else None
        if address is None or uri != f"{self._uri}{address.relative}":
            raise outside_error(uri, self._uri)
        return address

    def _translated(
        self, verb: str, *, deadline: bool = True, size_bytes: int = 0
    ) -> AbstractAsyncContextManager[None]:
        """Turn errors into those of the store; a large transfer has more time."""
        limit_s = self._settings.timeout_s + size_bytes / LEAST_BYTES_PER_S
        return translated(self._settings, verb, limit_s if deadline else None)

    def _unavailable(self, verb: str, why: str) -> StoreUnavailableError:
        return StoreUnavailableError(f"cannot {verb} {store_text(self._settings)}: {why}")


def _md5(data: bytes) -> str:
    return b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _age_s(response: Mapping[str, Any], modified_at: datetime) -> float:
    """Return the age of an object that ``response`` names, by the server's clock alone."""
    age: timedelta = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"]) - modified_at
    return age.total_seconds()
