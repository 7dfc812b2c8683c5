"""Makes the client for an S3 bucket at the first call, and explains the errors of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Protocol

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError
from botocore.handlers import add_expect_header
from botocore.parsers import ResponseParserError
from pydantic import SecretStr

from infra.storage.settings import ObjectStoreSettings

_CONNECTIONS = 32

CLIENT_ERRORS = (BotoCoreError, ResponseParserError, HttpError, OSError, TimeoutError)
"""The client's errors when network or library fail; ClientError is an error that the server responded with."""

_ALWAYS_SENT = {
    "GetObject": ("ETag", "LastModified"),
    "HeadObject": ("ETag", "LastModified"),
    "ListObjectsV2": ("Name",),
    "PutObject": ("ETag",),
}
_HTTP_SUCCESS = 300


class NoS3ServerError(ConnectionError):
    """Something that is no S3 server responded with success, so nothing is known of the object."""


class S3Access(Protocol):
    """Is the part of a settings section that says how a bucket is reached."""

    @property
    def endpoint_url(self) -> str | None:
        """The address of a server other than AWS."""
        ...

    @property
    def region(self) -> str:
        """The region of the bucket."""
        ...

    @property
    def access_key(self) -> SecretStr | None:
        """The id of the key; None: what this machine has."""
        ...

    @property
    def secret_key(self) -> SecretStr | None:
        """The secret of the key."""
        ...

    @property
    def timeout_s(self) -> float:
        """The time limit for connecting, and for each read."""
        ...


class S3Connection:
    """Holds one client; it connects at the first call, so that a service can start while the store is unavailable."""

    def __init__(self, access: S3Access) -> None:
        self._access = access
        self._resources = AsyncExitStack()
        self._opening = asyncio.Lock()
        # The library builds its client class at run time from a description; there is no type to name.
        self._client: Any = None

    async def client(self) -> Any:  # see __init__: a class made at run time
        """Return the client; it connects when it is used."""
        async with self._opening:
            if self._client is None:
                access = self._access
                self._client = await self._resources.enter_async_context(
                    get_session().create_client(
                        "s3",
                        region_name=access.region,
                        endpoint_url=access.endpoint_url,
                        aws_access_key_id=access.access_key and access.access_key.get_secret_value(),
                        aws_secret_access_key=access.secret_key and access.secret_key.get_secret_value(),
                        config=_config(access),
                    )
                )
                # "Expect: 100-continue" before each upload costs a round trip, which pays for large uploads only.
                self._client.meta.events.unregister("before-call.s3", add_expect_header)
                for operation in _ALWAYS_SENT:
                    self._client.meta.events.register(f"after-call.s3.{operation}", _require_s3_server)
            return self._client

    async def close(self) -> None:
        """Close all connections; may be called again."""
        async with self._opening:
            self._client = None
            await self._resources.aclose()


def _config(access: S3Access) -> AioConfig:
    own_endpoint = access.endpoint_url is not None
    return AioConfig(
        connect_timeout=access.timeout_s,
        read_timeout=access.timeout_s,
        max_pool_connections=_CONNECTIONS,
        # One attempt here: the caller decides about retries.
        retries={"total_max_attempts": 1, "mode": "standard"},
        s3={"addressing_style": "path" if own_endpoint else "auto"},
        # Requests are signed so anyway; addresses that are given away would get the older signature.
        signature_version="s3v4",
        # Many servers other than AWS do not support the newer checksum trailers.
        request_checksum_calculation="when_required" if own_endpoint else "when_supported",
        response_checksum_validation="when_required",
    )


def _require_s3_server(*, http_response: Any, parsed: Mapping[str, Any], model: Any, **_: object) -> None:
    """Raise NoS3ServerError for a success without the fields that S3 servers send with it."""
    if http_response.status_code >= _HTTP_SUCCESS:
        return
    missing = [name for name in _ALWAYS_SENT[model.name] if name not in parsed]
    if missing:
        raise NoS3ServerError(
            f"the response to {model.name} has no {' and no '.join(missing)}, which every S3 server sends; a proxy or "
            "a login page may have sent it, check the address of the store"
        )


def hints(settings: type[ObjectStoreSettings]) -> Mapping[str, str]:
    """Return what to do about errors that a setting causes, by the server's code."""
    may_not = "the keys have no right to do this; allow them to get, put, delete and list in the bucket"
    damaged = (
        "the bytes were damaged in transfer and not stored; it is tried again. If it happens often, check the network"
    )
    return {
        "NoSuchBucket": f"the bucket does not exist; create it or correct {settings.variable('bucket')}",
        "InvalidAccessKeyId": f"the store does not know the access key; correct {settings.variable('access_key')}",
        "SignatureDoesNotMatch": (
            f"the secret key does not belong to the access key; correct {settings.variable('secret_key')}"
        ),
        "RequestTimeTooSkewed": "this machine's clock and that of the store differ; correct the wrong one (NTP)",
        "BadDigest": damaged,
        "InvalidDigest": damaged,
        "XAmzContentChecksumMismatch": damaged,
        "XAmzContentSHA256Mismatch": damaged,
        "AccessDenied": may_not,
        "403": may_not,
    }


def code_of(error: ClientError) -> str:
    """Return the server's code of the error."""
    return str(error.response.get("Error", {}).get("Code", "unknown error"))


def says_missing(error: ClientError) -> bool:
    """Whether the store says that it has no such object; a 404 without this code comes from a proxy in front of it."""
    return code_of(error) == "NoSuchKey"


def status_of(error: ClientError) -> int:
    """Return the HTTP status of the error."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
