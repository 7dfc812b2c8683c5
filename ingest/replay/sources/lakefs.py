"""Lists and reads the objects of a LakeFS ref."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from infra.lakefs.access import LakeFsAccess
from infra.lakefs.errors import (
    LakeFsNotFoundError,
    LakeFsObjectMissingError,
    LakeFsRefusedError,
    LakeFsRequestError,
    LakeFsTooLargeError,
    LakeFsUnavailableError,
)
from infra.lakefs.repository import LakeFsRepository
from ingest.replay.errors import RefusedItemError, SourceError, SourceUnavailableError
from ingest.replay.settings import ReplayLakeFsSettings
from ingest.replay.sources.names import too_large
from ingest.replay.sources.pairs import Listed

_UNKNOWN = datetime.fromtimestamp(0, UTC)
"""The time of an object of which the server says none"""


class LakeFsLister:
    """Reads one ref; :class:`ingest.replay.sources.objects.ObjectLister` has the contract.

    Requests go to the server of the settings only: redirects are not followed, so that the key goes nowhere else.
    """

    def __init__(
        self, repository: str, ref: str, prefix: str, settings: ReplayLakeFsSettings, timeout_s: float
    ) -> None:
        """Raise SettingsError without address and key. Connects at the first call.

        ``timeout_s``: the time limit for one object.
        """
        access = LakeFsAccess.of(settings, repository, settings.timeout_s)

        def variable(field: str) -> str:
            # No setting, but a part of the address of the source.
            return "repository and ref" if field == "repository" else settings.variable(field)

        self._lakefs = LakeFsRepository(replace(access, variable=variable))
        self._server = settings.endpoint_url
        self._repository, self._ref, self._prefix = repository, ref, prefix
        self._timeout_s = timeout_s

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """Server, repository, ref and prefix."""
        address = f"lakefs://{self._repository}/{self._ref}/{self._prefix}"
        return {"kind": "lakefs", "address": address, "server": self._server}

    async def listed(self, after: str | None) -> AsyncIterator[Listed]:
        """Yield the objects after the path ``after``, by path."""
        entries = self._lakefs.objects.listed(self._ref, self._prefix, after=after or "")
        while True:
            with self._translated():
                try:
                    found = await anext(entries, None)
                except (KeyError, TypeError, ValueError, OverflowError) as error:
                    raise SourceError(f"{self._server} does not respond as LakeFS does; correct its address") from error
            if found is None:
                return
            modified_at = None if found.modified_at <= _UNKNOWN else found.modified_at
            yield Listed(found.path, found.size_bytes, modified_at)

    async def read(self, key: str, most_bytes: int) -> bytes:
        """Return the object at ``key``."""
        with self._translated():
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._lakefs.objects.read(self._ref, key, most_bytes)
            except LakeFsObjectMissingError as error:
                why = "it was removed before it was read, or its bytes were deleted"
                raise RefusedItemError("FILE_GONE", why) from error
            except LakeFsTooLargeError as error:
                refusal = too_large(error.size_bytes, most_bytes)
                raise RefusedItemError(refusal.code, refusal.reason) from error
            except TimeoutError as error:
                limit = f"{self._timeout_s:g} s (replay.read_timeout_s)"
                raise SourceUnavailableError(f"{key} was not read from {self._lakefs.where} within {limit}") from error

    async def close(self) -> None:
        """Close all connections."""
        await self._lakefs.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the errors of LakeFS into those of a source."""
        try:
            yield
        except LakeFsUnavailableError as error:
            raise SourceUnavailableError(str(error)) from error
        except (LakeFsNotFoundError, LakeFsObjectMissingError) as error:
            raise SourceError(f"{error}; correct repository and ref") from error
        except (LakeFsRefusedError, LakeFsRequestError) as error:
            raise SourceError(str(error)) from error
