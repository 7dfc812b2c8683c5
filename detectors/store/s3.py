"""Keeps blobs in an S3 bucket; large files are sent in parts, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from detectors.errors import ModelStoreError, ModelStoreUnavailableError
from detectors.settings import ModelStoreSettings
from detectors.store.blobs import CHUNK_BYTES, BlobMissingError, Download, OnTransfer
from detectors.store.progress_deadline import progress_deadline
from infra.storage.s3_client import CLIENT_ERRORS, S3Connection, code_of, hints, says_missing, status_of

_HINTS = hints(ModelStoreSettings)
# A part is held in memory; S3 takes at most 10,000 of them.
_PART_BYTES = 8 * CHUNK_BYTES
_MAX_PARTS = 10_000


class _CountedBytes(BytesIO):
    """Calls ``moved`` whenever the client reads some of the bytes."""

    def __init__(self, data: bytes, moved: Callable[[], None]) -> None:
        super().__init__(data)
        self._moved = moved

    def read(self, size: int | None = -1, /) -> bytes:
        self._moved()
        return super().read(size)


class S3Blobs:
    """Keeps objects ``s3://bucket/prefix/name/version/file``; see :class:`detectors.store.blobs.Blobs`."""

    def __init__(self, settings: ModelStoreSettings) -> None:
        """Connects at the first call."""
        self._settings = settings
        self._bucket = settings.bucket
        self._prefix = f"{settings.prefix.strip('/')}/".lstrip("/")
        self._connection = S3Connection(settings)

    @property
    def where(self) -> str:
        """The bucket and the prefix."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    async def keys(self) -> Sequence[str]:
        """Return all objects below the prefix."""
        client = await self._connection.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        with self._translate_errors("list"):
            return [
                entry["Key"].removeprefix(self._prefix) async for page in pages for entry in page.get("Contents", ())
            ]

    @asynccontextmanager
    async def read(self, key: str) -> AsyncIterator[Download]:
        """Read the object's bytes as they arrive."""
        client = await self._connection.client()
        with self._translate_errors("read"):
            try:
                response = await client.get_object(Bucket=self._bucket, Key=self._prefix + key)
            except ClientError as error:
                if not says_missing(error):
                    raise
                raise BlobMissingError(key) from error
        async with response["Body"] as body:
            yield Download(response["ContentLength"], self._chunks(body))

    async def write(self, key: str, file: Path, on_transfer: OnTransfer) -> None:
        """Send a small file in one request, a large one in parts, which become an object when all are complete."""
        total = file.stat().st_size
        with FileIO(file) as source:
            if total <= _PART_BYTES:
                await self.put(key, await asyncio.to_thread(source.readall), new=False)
                on_transfer(key, total, total)
            else:
                await self._write_parts(key, source, total, on_transfer)

    async def put(self, key: str, data: bytes, *, new: bool) -> bool:
        """Send the bytes; with ``new`` the server refuses an existing object, if it can."""
        client = await self._connection.client()
        condition = {"IfNoneMatch": "*"} if new else {}
        with self._translate_errors("write"):
            try:
                async with self._request_body(data) as body:
                    await client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=body, **condition)
            except ClientError as error:
                if status_of(error) != 412:
                    raise
                return False
        return True

    async def commit_changes(self, message: str) -> None:
        """Do nothing: S3 has no commits."""

    async def close(self) -> None:
        """Close all connections."""
        await self._connection.close()

    async def _write_parts(self, key: str, source: FileIO, total: int, on_transfer: OnTransfer) -> None:
        client = await self._connection.client()
        place = {"Bucket": self._bucket, "Key": self._prefix + key}
        with self._translate_errors("write"):
            upload = await client.create_multipart_upload(**place)
            place["UploadId"] = upload["UploadId"]
            try:
                parts: list[dict[str, object]] = []
                while data := await asyncio.to_thread(source.read, max(_PART_BYTES, -(-total // _MAX_PARTS))):
                    parts.append(await self._write_part(client, place, len(parts) + 1, data))
                    on_transfer(key, source.tell(), total)
                await client.complete_multipart_upload(**place, MultipartUpload={"Parts": parts})
            except BaseException:
                # Parts that are not completed cost money until they are deleted.
                await asyncio.shield(asyncio.gather(client.abort_multipart_upload(**place), return_exceptions=True))
                raise

    async def _write_part(self, client: Any, place: dict[str, str], number: int, data: bytes) -> dict[str, object]:
        async with self._request_body(data) as body:
            response = await client.upload_part(**place, PartNumber=number, Body=body)
        return {"PartNumber": number, "ETag": response["ETag"]}

    @asynccontextmanager
    async def _request_body(self, data: bytes) -> AsyncIterator[_CountedBytes]:
        """Return ``data`` as the body of one request, which is given up when it makes no progress."""
        async with progress_deadline(self._settings.timeout_s) as moved:
            # Closed, it holds no bytes: the client keeps the body until the garbage collector runs.
            with _CountedBytes(data, moved) as body:
                yield body

    async def _chunks(self, body: Any) -> AsyncIterator[bytes]:  # the library's class is made at run time
        while True:
            with self._translate_errors("read"):
                chunk: bytes = await body.read(CHUNK_BYTES)
            if not chunk:
                return
            yield chunk

    @contextmanager
    def _translate_errors(self, verb: str) -> Iterator[None]:
        """Turn the errors of client and server into errors that say what to check."""
        at = f"the model store {self.where} at {self._settings.endpoint_url or f'AWS {self._settings.region}'}"
        try:
            yield
        except ClientError as error:
            code, status = code_of(error), status_of(error)
            if code in _HINTS:
                raise ModelStoreError(f"cannot {verb} {at}: {code} (HTTP {status}): {_HINTS[code]}") from error
            raise ModelStoreUnavailableError(
                f"cannot {verb} {at}: {code} (HTTP {status}), an error of the server; try again"
            ) from error
        except CLIENT_ERRORS as error:
            why = str(error) or f"no progress for {self._settings.timeout_s} s (STANDGALE_MODELS__TIMEOUT_S)"
            raise ModelStoreUnavailableError(f"cannot {verb} {at}: {why}; is it up and reachable?") from error
