"""Lists and reads the objects below a prefix of an S3 bucket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC

from botocore.exceptions import ClientError, NoCredentialsError, ParamValidationError

from infra.storage.s3_client import CLIENT_ERRORS, S3Connection, code_of, says_missing, status_of
from ingest.replay.errors import RefusedItemError, SourceError, SourceUnavailableError
from ingest.replay.settings import ReplayS3Settings
from ingest.replay.sources.names import too_large
from ingest.replay.sources.pairs import Listed

_PAGE = 1_000


class S3Lister:
    """Reads one bucket; :class:`ingest.replay.sources.objects.ObjectLister` has the contract."""

    def __init__(self, bucket: str, prefix: str, settings: ReplayS3Settings, timeout_s: float) -> None:
        """Connects at the first call."""
        self._bucket = bucket
        self._prefix = prefix
        self._settings = settings
        self._timeout_s = timeout_s
        self._connection = S3Connection(settings)

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """Server, bucket and prefix."""
        server = self._settings.endpoint_url or f"AWS {self._settings.region}"
        return {"kind": "s3", "address": f"s3://{self._bucket}/{self._prefix}", "server": server}

    async def listed(self, after: str | None) -> AsyncIterator[Listed]:
        """Yield the objects after the key ``after``, in the server's order, which is that of the keys."""
        client = await self._connection.client()
        place = {"Bucket": self._bucket, "Prefix": self._prefix, "MaxKeys": _PAGE}
        more = {} if after is None else {"StartAfter": after}
        while True:
            with self._translated("list"):
                async with asyncio.timeout(self._timeout_s):
                    page = await client.list_objects_v2(**place, **more)
            last = after or ""
            for entry in page.get("Contents", ()):
                # Some servers ignore where to start.
                if after is None or entry["Key"] > after:
                    last = entry["Key"]
                    yield Listed(last, entry["Size"], entry["LastModified"].astimezone(UTC))
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or not token:
                return
            more = {"ContinuationToken": token}

    async def read(self, key: str, most_bytes: int) -> bytes:
        """Return the object at ``key``."""
        client = await self._connection.client()
        with self._translated("read"):
            async with asyncio.timeout(self._timeout_s):
                try:
                    response = await client.get_object(Bucket=self._bucket, Key=key)
                except ClientError as error:
                    if not says_missing(error):
                        raise
                    raise RefusedItemError("FILE_GONE", "it was removed before it was read") from error
                async with response["Body"] as body:
                    size = int(response["ContentLength"])
                    if size > most_bytes:
                        why = too_large(size, most_bytes)
                        raise RefusedItemError(why.code, why.reason)
                    data: bytes = await body.read()
        if len(data) != size:
            raise SourceUnavailableError(f"{key} has {size} bytes, but {len(data)} came; it is read again")
        return data

    async def close(self) -> None:
        """Close all connections."""
        await self._connection.close()

    @contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        where = f"cannot {verb} s3://{self._bucket}/{self._prefix} at {self.identity['server']}"
        try:
            yield
        except ClientError as error:
            status, code = status_of(error), code_of(error)
            if status >= 500 or status in (408, 429) or code in ("SlowDown", "RequestTimeout"):
                raise SourceUnavailableError(f"{where}: {code} (HTTP {status})") from error
            raise SourceError(f"{where}: {code} (HTTP {status}); {self._advice(code)}") from error
        except (NoCredentialsError, ParamValidationError) as error:
            raise SourceError(f"{where}: {error}; {self._advice('')}") from error
        except CLIENT_ERRORS as error:
            why = str(error) or f"no response within {self._timeout_s:g} s (replay.read_timeout_s)"
            raise SourceUnavailableError(f"{where}: {why}; is it up and reachable?") from error

    def _advice(self, code: str) -> str:
        settings = self._settings
        if code == "NoSuchBucket":
            return "correct the name of the bucket"
        return (
            f"check {settings.variable('access_key')} and {settings.variable('secret_key')}, "
            f"{settings.variable('endpoint_url')}, and what the key may do: list and get"
        )
