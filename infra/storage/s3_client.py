"""One client for an S3 bucket, made at the first call, and what its faults mean."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError
from botocore.handlers import add_expect_header

from infra.storage.settings import ObjectStoreSettings

_CONNECTIONS = 32

FAULTS = (BotoCoreError, HttpError, OSError, TimeoutError)
"""What the client raises when the network or the library is at fault; ClientError is what the server answered."""


class S3Connection:
    """Nothing is connected before the first call, so a service can start while the store is away."""

    def __init__(self, access: ObjectStoreSettings) -> None:
        self._access = access
        self._resources = AsyncExitStack()
        self._opening = asyncio.Lock()
        # The library builds its client class at run time from a description; there is no type to name.
        self._client: Any = None

    async def client(self) -> Any:  # see __init__: a class made at run time
        """The client, connected when it is used."""
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
                # Asking before each upload whether it is welcome costs a round trip, which is worth it for large ones.
                self._client.meta.events.unregister("before-call.s3", add_expect_header)
            return self._client

    async def close(self) -> None:
        """Close all connections; may be repeated."""
        async with self._opening:
            self._client = None
            await self._resources.aclose()


def _config(access: ObjectStoreSettings) -> AioConfig:
    own_endpoint = access.endpoint_url is not None
    return AioConfig(
        connect_timeout=access.timeout_s,
        read_timeout=access.timeout_s,
        max_pool_connections=_CONNECTIONS,
        # One try here: how often and how long to try again is the caller's policy.
        retries={"total_max_attempts": 1, "mode": "standard"},
        s3={"addressing_style": "path" if own_endpoint else "auto"},
        # Servers other than AWS often do not know the newer checksum trailers.
        request_checksum_calculation="when_required" if own_endpoint else "when_supported",
        response_checksum_validation="when_required",
    )


def hints(settings: type[ObjectStoreSettings]) -> Mapping[str, str]:
    """Return what to do about faults that a setting causes, by the server's code."""
    may_not = "the keys may not do this; allow them to get, put, delete and list in the bucket"
    damaged = (
        "the bytes were damaged on the way and not stored; it is tried again. Where it happens often, see the network"
    )
    return {
        "NoSuchBucket": f"the bucket does not exist; create it or correct {settings.variable('bucket')}",
        "InvalidAccessKeyId": f"the store does not know the access key; correct {settings.variable('access_key')}",
        "SignatureDoesNotMatch": (
            f"the secret key does not fit the access key; correct {settings.variable('secret_key')}"
        ),
        "BadDigest": damaged,
        "InvalidDigest": damaged,
        "XAmzContentChecksumMismatch": damaged,
        "XAmzContentSHA256Mismatch": damaged,
        "AccessDenied": may_not,
        "403": may_not,
    }


def code_of(error: ClientError) -> str:
    """The server's code for what went wrong."""
    return str(error.response.get("Error", {}).get("Code", "unknown fault"))


def status_of(error: ClientError) -> int:
    """The HTTP status it came with."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
