"""Lists, reads, writes and removes objects of any bucket of one S3 server, each by its address ``s3://bucket/key``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from botocore.exceptions import ClientError, NoCredentialsError, ParamValidationError

from infra.errors import SettingsError, StoreUnavailableError
from infra.storage.objects import ListedObject, ObjectMissingError, ObjectTooLargeError
from infra.storage.s3_address import S3Address
from infra.storage.s3_client import CLIENT_ERRORS, S3Access, S3Connection, code_of, says_missing, status_of
from infra.storage.s3_download import LEAST_BYTES_PER_S, download

_PAGE = 1_000
_HTTP_SERVER_ERROR = 500


class S3Objects:
    """Reaches the objects of one server; it connects at the first call."""

    def __init__(self, access: S3Access, hint: str) -> None:
        """``hint`` says for errors which settings or variables to check."""
        self._access = access
        self._hint = hint
        self._connection = S3Connection(access)

    async def listed(self, folder: S3Address) -> AsyncIterator[ListedObject]:
        """Yield the objects below ``folder`` in the order of their keys.

        All methods raise StoreUnavailableError when a later call may succeed, and SettingsError when a person must act.
        """
        client = await self._connection.client()
        place = {"Bucket": folder.bucket, "Prefix": folder.key, "MaxKeys": _PAGE}
        more: dict[str, str] = {}
        while True:
            with self._translated("list", folder):
                async with asyncio.timeout(self._access.timeout_s):
                    page = await client.list_objects_v2(**place, **more)
            for entry in page.get("Contents", ()):
                yield ListedObject(S3Address(folder.bucket, entry["Key"]), entry["Size"])
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or not token:
                return
            more = {"ContinuationToken": token}

    @asynccontextmanager
    async def local(self, address: S3Address, folder: Path, most_bytes: int) -> AsyncIterator[Path]:
        """Give the object as a file in ``folder`` for the block.

        Raises ObjectMissingError, ObjectTooLargeError, StoreFullError for the disk.
        """
        path = await self.fetch(address, folder, most_bytes)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    async def fetch(self, address: S3Address, folder: Path, most_bytes: int) -> Path:
        """Write the object to a new file in ``folder``; return its path. Raises as :meth:`local`."""
        client = await self._connection.client()
        with self._translated("read", address):
            async with asyncio.timeout(self._access.timeout_s):
                try:
                    response = await client.get_object(Bucket=address.bucket, Key=address.key)
                except ClientError as error:
                    if not says_missing(error):
                        raise
                    raise ObjectMissingError(f"{address}: there is no such object") from error
            size = int(response["ContentLength"])
            if size > most_bytes:
                response["Body"].close()
                raise ObjectTooLargeError(f"{address}: has {size} bytes; at most {most_bytes} are read")
            async with asyncio.timeout(self._access.timeout_s + size / LEAST_BYTES_PER_S):
                path, _ = await download(response, folder)
        if (found := path.stat().st_size) != size:
            path.unlink()
            raise StoreUnavailableError(f"{address}: has {size} bytes, but {found} came")
        return path

    async def put(self, address: S3Address, data: bytes, media_type: str) -> None:
        """Write ``data``; what was there is replaced."""
        client = await self._connection.client()
        with self._translated("write", address):
            async with asyncio.timeout(self._access.timeout_s + len(data) / LEAST_BYTES_PER_S):
                await client.put_object(Bucket=address.bucket, Key=address.key, Body=data, ContentType=media_type)

    async def remove(self, addresses: Sequence[S3Address]) -> None:
        """Remove objects; those that are not there are no error."""
        client = await self._connection.client()
        for address in addresses:
            with self._translated("remove", address):
                async with asyncio.timeout(self._access.timeout_s):
                    await client.delete_object(Bucket=address.bucket, Key=address.key)

    async def close(self) -> None:
        """Close all connections."""
        await self._connection.close()

    @contextmanager
    def _translated(self, verb: str, address: S3Address) -> Iterator[None]:
        where = f"cannot {verb} {address} at {self._access.endpoint_url or f'AWS {self._access.region}'}"
        try:
            yield
        except ClientError as error:
            code, status = code_of(error), status_of(error)
            if status >= _HTTP_SERVER_ERROR or status in (408, 429) or code in ("SlowDown", "RequestTimeout"):
                raise StoreUnavailableError(f"{where}: {code} (HTTP {status})") from error
            advice = "correct the name of the bucket" if code == "NoSuchBucket" else f"check {self._hint}"
            raise SettingsError(f"{where}: {code} (HTTP {status}); {advice}") from error
        except (NoCredentialsError, ParamValidationError) as error:
            raise SettingsError(f"{where}: {error}; check {self._hint}") from error
        except CLIENT_ERRORS as error:
            why = str(error) or "it did not respond in time"
            raise StoreUnavailableError(f"{where}: {why}; is it up and reachable?") from error
