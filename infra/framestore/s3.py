"""The frame store in an S3 bucket: for production, shared by every machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC

from botocore.exceptions import ClientError

from infra.errors import ImageMissingError, StoreFullError, StoreUnavailableError
from infra.framestore.addressing import ContentAddress, outside, verified, wrong_size
from infra.framestore.port import StoredObject
from infra.s3_client import FAULTS, S3Connection, code_of, hints, status_of
from infra.settings import FrameSettings
from schemas.events import ImageRef

_PROBE = ".probe"
# Hashing lets go of the interpreter but not of the event loop; above this size it is worth the hop to a thread.
_HASH_IN_THREAD_BYTES = 1_000_000

_HINTS = hints("FRAMES")
_HTTP_FULL = 507
_FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage"}


class S3FrameStore:
    """Frames as objects ``s3://bucket/prefix/ab/<sha256>.<ext>``; the port's contract is on :class:`FrameStore`."""

    def __init__(self, settings: FrameSettings) -> None:
        """Nothing is connected before the first call, so a service can start while the store is away."""
        self._settings = settings
        self._prefix = f"{settings.prefix.strip('/')}/".lstrip("/")
        self._uri = f"s3://{settings.bucket}/{self._prefix}"
        self._connection = S3Connection(settings)

    async def put(self, data: bytes, *, sha256: str, media_type: str) -> str:
        """Store ``data``, unless it is there already, and return its ``s3:`` uri."""
        address = ContentAddress.of(sha256, media_type)
        client = await self._connection.client()
        async with self._translated("write"):
            try:
                await client.put_object(
                    Bucket=self._settings.bucket,
                    Key=self._prefix + address.relative,
                    Body=data,
                    ContentType=media_type,
                    # A versioned bucket would keep every repetition; a server that ignores this rewrites equal bytes.
                    IfNoneMatch="*",
                )
            except ClientError as error:
                if status_of(error) != 412:
                    raise
        return f"{self._uri}{address.relative}"

    async def get(self, image: ImageRef) -> bytes:
        """The bytes of ``image``, hash checked."""
        key = self._key(image.uri)
        if key.sha256 != image.sha256:
            raise outside(image.uri, self._uri)
        client = await self._connection.client()
        async with self._translated("read"):
            try:
                answer = await client.get_object(Bucket=self._settings.bucket, Key=self._prefix + key.relative)
            except ClientError as error:
                if code_of(error) not in {"NoSuchKey", "404"}:
                    raise
                raise ImageMissingError(
                    f"the frame store has no object {image.uri}: it was removed (retention), or the gateway writes to "
                    "another bucket; compare WINDHOVER_FRAMES__BUCKET and __ENDPOINT_URL of both services"
                ) from error
            async with answer["Body"] as body:
                # Before reading: a damaged object must not take more memory than the event promised.
                if answer["ContentLength"] != image.size_bytes:
                    raise wrong_size(image, answer["ContentLength"])
                data: bytes = await body.read()
        if len(data) < _HASH_IN_THREAD_BYTES:
            return verified(image, data)
        return await asyncio.to_thread(verified, image, data)

    async def delete(self, uri: str) -> None:
        """Remove the object at ``uri``; raises ImageMissingError for an address outside this store."""
        address = self._key(uri)
        client = await self._connection.client()
        async with self._translated("delete in"):
            await client.delete_object(Bucket=self._settings.bucket, Key=self._prefix + address.relative)

    async def objects(self) -> AsyncIterator[StoredObject]:
        """Every object, in the order of the hashes; what changes meanwhile may or may not appear."""
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
        """Write a small object and read it back; the error says whether bucket, keys or network are at fault."""
        client = await self._connection.client()
        key = self._prefix + _PROBE
        async with self._translated("write to"):
            await client.put_object(Bucket=self._settings.bucket, Key=key, Body=b"windhover")
        async with self._translated("read from"):
            answer = await client.get_object(Bucket=self._settings.bucket, Key=key)
            async with answer["Body"] as body:
                await body.read()

    async def close(self) -> None:
        """Close all connections."""
        await self._connection.close()

    def _key(self, uri: str) -> ContentAddress:
        address = ContentAddress.in_path(uri) if uri.startswith(self._uri) else None
        if address is None or uri != f"{self._uri}{address.relative}":
            raise outside(uri, self._uri)
        return address

    @asynccontextmanager
    async def _translated(self, verb: str, *, deadline: bool = True) -> AsyncIterator[None]:
        """Turn the faults of client and server into StoreUnavailableError that says what to look at.

        The deadline is for the whole call: the client's own time-outs are for one read each, so a server that sends a
        byte now and then would never meet them.
        """
        try:
            async with asyncio.timeout(self._settings.timeout_s if deadline else None):
                yield
        except ClientError as error:
            code = code_of(error)
            if status_of(error) == _HTTP_FULL or code in _FULL:
                raise self._full(verb, code) from error
            hint = _HINTS.get(code, "the store answered with a fault of its own; it is tried again")
            raise self._unavailable(verb, f"{code} (HTTP {status_of(error)}): {hint}") from error
        except FAULTS as error:
            why = str(error) or f"no answer within {self._settings.timeout_s} s (WINDHOVER_FRAMES__TIMEOUT_S)"
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
