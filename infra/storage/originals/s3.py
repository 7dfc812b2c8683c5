"""Keeps uploads in the bucket of the frame store; devices put them there without passing the gateway."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from botocore.exceptions import ClientError

from infra.storage.originals.errors import WrongContentError
from infra.storage.originals.port import Grant, Upload
from infra.storage.s3_client import S3Connection, says_missing
from infra.storage.s3_download import LEAST_BYTES_PER_S, download
from infra.storage.s3_errors import translated
from infra.storage.settings import FrameSettings

_FOLDER = ".originals"
_ASKED = ".asked"


class S3Uploads:
    """Keeps uploads as objects ``<prefix>/.originals/<device>/<sha256>``; the store checks signed length and hash.

    It lets everybody write who has an address, and counts nothing. So the addresses are counted: for each there is an
    empty object ``<sha256>.asked``.
    """

    def __init__(self, settings: FrameSettings, spool: Path, *, max_bytes: int) -> None:
        """``spool``: a local folder for files in progress; ``max_bytes``: of one original."""
        self._settings = settings
        self._prefix = f"{settings.prefix.strip('/')}/".lstrip("/") + f"{_FOLDER}/"
        self._connection = S3Connection(settings)
        self._spool = spool
        self._max_bytes = max_bytes

    async def grant(self, upload: Upload, lasts_s: float) -> Grant:
        """Return an address of the bucket that is signed for this length, media type and hash."""
        checksum = b64encode(bytes.fromhex(upload.sha256)).decode()
        client = await self._connection.client()
        expires_at = datetime.now(UTC) + timedelta(seconds=lasts_s)
        async with self._translated("write to"):
            await client.put_object(**self._where(upload.device_id, upload.sha256 + _ASKED), Body=b"")
        async with self._translated("sign for"):
            url: str = await client.generate_presigned_url(
                "put_object",
                Params={
                    **self._where(upload.device_id, upload.sha256),
                    "ContentLength": upload.size_bytes,
                    "ContentType": upload.media_type,
                    "ChecksumSHA256": checksum,
                },
                ExpiresIn=int(lasts_s),
            )
        headers = {
            "Content-Type": upload.media_type,
            "Content-Length": str(upload.size_bytes),
            "x-amz-checksum-sha256": checksum,
        }
        return Grant(url, headers, expires_at.replace(microsecond=0))

    async def pending(self, upload: Upload, most: int, lasts_s: float) -> int:
        """Count the other originals of the device that have an object, or an address that is not older than this."""
        client = await self._connection.client()
        folder = f"{self._prefix}{upload.device_id}/"
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self._settings.bucket, Prefix=folder)
        oldest, others = datetime.now(UTC) - timedelta(seconds=lasts_s), set[str]()
        async with self._translated("list"):
            async for page in pages:
                for entry in page.get("Contents", ()):
                    name = entry["Key"].removeprefix(folder)
                    if not name.endswith(_ASKED) or entry["LastModified"] >= oldest:
                        others.add(name.removesuffix(_ASKED))
                if len(others - {upload.sha256}) >= most:
                    break
        return min(most, len(others - {upload.sha256}))

    @asynccontextmanager
    async def received(self, device_id: str, sha256: str) -> AsyncIterator[Path | None]:
        """Give a copy: an address that was granted stays valid, so the object itself may be replaced at any moment."""
        path = await self._download(device_id, sha256)
        try:
            yield path
        finally:
            if path is not None:
                await asyncio.to_thread(path.unlink, missing_ok=True)

    async def discard(self, device_id: str, sha256: str) -> None:
        """Remove the object, and what was noted of its address."""
        client = await self._connection.client()
        async with self._translated("delete in"):
            for name in (sha256, sha256 + _ASKED):
                await client.delete_object(**self._where(device_id, name))

    async def sweep(self, max_age_s: float) -> int:
        """Remove old objects."""
        client = await self._connection.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self._settings.bucket, Prefix=self._prefix)
        oldest, removed = datetime.now(UTC) - timedelta(seconds=max_age_s), 0
        async with translated(self._settings, "sweep", None):
            async for page in pages:
                for entry in page.get("Contents", ()):
                    if entry["LastModified"] < oldest:
                        await client.delete_object(Bucket=self._settings.bucket, Key=entry["Key"])
                        removed += not entry["Key"].endswith(_ASKED)
        return removed

    async def close(self) -> None:
        """Close all connections."""
        await self._connection.close()

    async def _download(self, device_id: str, sha256: str) -> Path | None:
        """Return a local file with the upload; None where there is none. Raises WrongContentError."""
        client = await self._connection.client()
        async with self._translated("read", self._max_bytes):
            try:
                response = await client.get_object(**self._where(device_id, sha256))
            except ClientError as error:
                if not says_missing(error):
                    raise
                return None
            size = response["ContentLength"]
            if size > self._max_bytes:
                response["Body"].close()
                found, path = f"unknown: it has {size} bytes, more than are allowed", None
            else:
                path, found = await download(response, self._spool)
        if path is not None and found == sha256:
            return path
        if path is not None:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        await self.discard(device_id, sha256)
        raise WrongContentError(
            f"the original that was uploaded has sha256 {found}, but {sha256} was said; it was removed"
        )

    def _where(self, device_id: str, name: str) -> dict[str, str]:
        return {"Bucket": self._settings.bucket, "Key": f"{self._prefix}{device_id}/{name}"}

    def _translated(self, verb: str, size_bytes: int = 0) -> AbstractAsyncContextManager[None]:
        return translated(self._settings, verb, self._settings.timeout_s + size_bytes / LEAST_BYTES_PER_S)
