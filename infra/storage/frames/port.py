"""The frame store port: bytes go in under their SHA-256 and come out checked against it (the claim check)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from schemas.events import ImageRef

REFRESH_AFTER_S = 3600.0
"""Content put again is made young again when it is older than this; a store may do so sooner."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of the store, as a sweep sees it."""

    uri: str
    size_bytes: int
    modified_at: datetime


class FrameStore(Protocol):
    """Content-addressed storage of encoded images; storing the same bytes twice stores them once."""

    async def put(self, data: bytes, *, sha256: str, media_type: str) -> str:
        """Store ``data`` durably and return its uri; never visible half-written.

        Content that is there already becomes young again: when this returns, the object is not older than this call by
        more than REFRESH_AFTER_S, so that :meth:`delete_older` does not take it.

        Raises StoreUnavailableError, and StoreFullError (a StoreUnavailableError) when there is no room for more.
        """
        ...

    async def get(self, image: ImageRef) -> bytes:
        """The bytes of ``image``, hash checked.

        Raises ImageMissingError (no such object, or an address outside this store), ImageCorruptError (another hash or
        size), StoreUnavailableError (try again).
        """
        ...

    async def delete(self, uri: str) -> None:
        """Remove an object of this store; one that is gone already is no error."""

    async def delete_older(self, uri: str, cutoff: datetime) -> bool:
        """Remove an object unless it was put, or put again, after ``cutoff``; whether it was removed. For retention.

        It never takes an object from a put that returned, or returns later: the age is looked at anew, and a put of the
        same content at that moment either makes it young before, or finds it gone and stores it again. ``cutoff`` must
        be more than REFRESH_AFTER_S ago, and only one sweep may be under way.
        """
        ...

    def objects(self) -> AsyncIterator[StoredObject]:
        """Every object of the store."""
        ...

    async def check(self) -> None:
        """Return when a small object could be written and read just now; errors as for :meth:`put`."""

    async def close(self) -> None:
        """Let go of all resources; may be called twice."""
