"""Stores frames in an S3 bucket: for production, shared by all machines."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import ClientError

from infra.errors import ImageMissingError, StoreFullError, StoreUnavailableError
from infra.process.monotonic import monotonic_s
from infra.storage.frames.addressing import ContentAddress, outside_error, verify, wrong_size_error
from infra.storage.frames.port import REFRESH_AFTER_S, StoredObject
from infra.storage.s3_client import CLIENT_ERRORS, S3Connection, code_of, hints, status_of
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

_HINTS = hints(FrameSettings)
_HTTP_FULL = 507
_FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage"}


class S3FrameStore:
    """Stores frames as objects ``s3://bucket/prefix/ab/<sha256>.<ext>``; :class:`FrameStore` has the contract."""

    def __init__(self, settings: FrameSettings) -> None:
        """Connect nothing before the first call, so that a service can start while the store is unavailable."""
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
        upload = await self._parameters(address, data, media_type)
        # A versioned bucket would keep every repetition, so an object is replaced only when it is old.
        fresh = await self._supports_conditions() and (
            await self._upload(upload | {"IfNoneMatch": "*"}) or not await self._is_old(address)
        )
        if not fresh:
            # This may replace an old object.
            await self._upload(upload)
            await self._await_sweep(address)
        return f"{self._uri}{address.relative}"

    async def get(self, image: ImageRef) -> bytes:
        """Return the bytes of ``image`` after checking their hash."""
        key = self._key(image.uri)
        if key.sha256 != image.sha256:
            raise outside_error(image.uri, self._uri)
        client = await self._connection.client()
        async with self._translated("read"):
            try:
                response = await client.get_object(Bucket=self._settings.bucket, Key=self._prefix + key.relative)
            except ClientError as error:
                if code_of(error) not in {"NoSuchKey", "404"}:
                    raise
                raise ImageMissingError(
                    f"the frame store has no object {image.uri}: it was removed (retention), or the gateway writes to "
                    "a different bucket; compare STANDGALE_FRAMES__BUCKET and __ENDPOINT_URL of both services"
                ) from error
            async with response["Body"] as body:
                # Before reading: a damaged object must not take more memory than the event says.
                if response["ContentLength"] != image.size_bytes:
                    raise wrong_size_error(image, response["ContentLength"])
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
        except* StoreUnavailableError as errors:
            # One outage fails them all; the others say the same.
            raise errors.exceptions[0] from None
        return found

    async def delete(self, uri: str) -> None:
        """Remove the object at ``uri``; raises ImageMissingError for an address outside this store."""
        address = self._key(uri)
        client = await self._connection.client()
        async with self._translated("delete in"):
            await client.delete_object(Bucket=self._settings.bucket, Key=self._prefix + address.relative)

    async def delete_older(self, uri: str, cutoff: datetime) -> bool:
        """Remove the object at ``uri`` unless it is younger than ``cutoff``; see the port.

        A mark says that it may be removed at any moment; a put of the same content looks for the mark after its upload.
        So either the put sees the mark, or this call sees the new time of the object.
        """
        address = self._key(uri)
        client = await self._connection.client()
        where = {"Bucket": self._settings.bucket, "Key": self._prefix + address.relative}
        mark = where | {"Key": self._mark(address)}
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

    async def _parameters(self, address: ContentAddress, data: bytes, media_type: str) -> dict[str, Any]:
        large = len(data) >= _HASH_IN_THREAD_BYTES
        return {
            "Bucket": self._settings.bucket,
            "Key": self._prefix + address.relative,
            "Body": data,
            "ContentType": media_type,
            # Some servers check the first, some the second.
            "ContentMD5": await asyncio.to_thread(_md5, data) if large else _md5(data),
            "ChecksumSHA256": b64encode(bytes.fromhex(address.sha256)).decode(),
        }

    async def _upload(self, parameters: Mapping[str, Any]) -> bool:
        """Upload; return False when the upload may only create an object, and it exists already."""
        client = await self._connection.client()
        async with self._translated("write"):
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
        return found is None or _age_s(found) > REFRESH_AFTER_S

    async def _await_sweep(self, address: ContentAddress) -> None:
        """Check that retention, which may have seen the former time of the uploaded object, does not remove it.

        Raises StoreUnavailableError when it is about to remove it, or has removed it: the put is then tried again.
        """
        mark = await self._head(self._mark(address))
        marked = mark is not None and _age_s(mark) < _MARK_LASTS_S
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

    def _mark(self, address: ContentAddress) -> str:
        return f"{self._prefix}{_SWEPT}/{address.sha256}"

    def _key(self, uri: str) -> ContentAddress:
        address = ContentAddress.in_path(uri) if uri.startswith(self._uri) else None
        if address is None or uri != f"{self._uri}{address.relative}":
            raise outside_error(uri, self._uri)
        return address

    @asynccontextmanager
    async def _translated(self, verb: str, *, deadline: bool = True) -> AsyncIterator[None]:
        """Turn the errors of client and server into StoreUnavailableError with a hint.

        The deadline is for the whole call: the client's own time limits are for one read each, so a server that sends
        a byte from time to time would never reach them.
        """
        try:
            async with asyncio.timeout(self._settings.timeout_s if deadline else None):
                yield
        except ClientError as error:
            code = code_of(error)
            if status_of(error) == _HTTP_FULL or code in _FULL:
                raise self._full(verb, code) from error
            hint = _HINTS.get(code, "the store responded with an error; it is tried again")
            raise self._unavailable(verb, f"{code} (HTTP {status_of(error)}): {hint}") from error
        except CLIENT_ERRORS as error:
            why = str(error) or f"no response within {self._settings.timeout_s} s (STANDGALE_FRAMES__TIMEOUT_S)"
            raise self._unavailable(verb, f"{why}; is the store up and reachable?") from error

    def _unavailable(self, verb: str, why: str) -> StoreUnavailableError:
        return StoreUnavailableError(f"cannot {verb} {self._where()}: {why}")

    def _full(self, verb: str, code: str) -> StoreFullError:
        return StoreFullError(
            f"cannot {verb} {self._where()}: it is full ({code}); remove frames that are no longer needed "
            "(docs/operations.md: when the frame store is full), or raise the bucket's quota"
        )

    def _where(self) -> str:
        return f"the frame store {self._uri} at {self._settings.endpoint_url or f'AWS {self._settings.region}'}"


def _md5(data: bytes) -> str:
    return b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _age_s(found: Mapping[str, Any]) -> float:
    """Return the age of the object in the response, by the server's clock alone."""
    now = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
    age: timedelta = now - found["LastModified"]
    return age.total_seconds()
