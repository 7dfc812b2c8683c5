"""Turns the errors of an S3 bucket with frames into errors of the frame store, each with a hint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from botocore.exceptions import ClientError

from infra.errors import StoreFullError, StoreUnavailableError
from infra.storage.s3_client import CLIENT_ERRORS, code_of, hints, status_of
from infra.storage.settings import FrameSettings

_HINTS = hints(FrameSettings)
_HTTP_FULL = 507
_FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage"}


@asynccontextmanager
async def translated(settings: FrameSettings, verb: str, limit_s: float | None) -> AsyncIterator[None]:
    """Turn the errors of client and server into StoreUnavailableError with a hint; ``limit_s`` is for the whole block.

    The client's own time limits are for one read each, so a server that sends a byte from time to time would never
    reach them.
    """
    where = store_text(settings)
    try:
        async with asyncio.timeout(limit_s):
            yield
    except ClientError as error:
        code = code_of(error)
        if status_of(error) == _HTTP_FULL or code in _FULL:
            raise StoreFullError(
                f"cannot {verb} {where}: it is full ({code}); remove frames that are no longer needed "
                "(docs/operations.md: when the frame store is full), or raise the bucket's quota"
            ) from error
        hint = _HINTS.get(code, "the store responded with an error; it is tried again")
        raise StoreUnavailableError(f"cannot {verb} {where}: {code} (HTTP {status_of(error)}): {hint}") from error
    except CLIENT_ERRORS as error:
        limit = settings.timeout_s if limit_s is None else limit_s
        why = str(error) or f"no response within {limit:g} s (STANDGALE_FRAMES__TIMEOUT_S)"
        raise StoreUnavailableError(f"cannot {verb} {where}: {why}; is the store up and reachable?") from error


def store_text(settings: FrameSettings) -> str:
    """Return the name of the store for error texts."""
    prefix = f"{settings.prefix.strip('/')}/".lstrip("/")
    server = settings.endpoint_url or f"AWS {settings.region}"
    return f"the frame store s3://{settings.bucket}/{prefix} at {server}"
