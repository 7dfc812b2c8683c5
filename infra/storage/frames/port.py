"""Defines the port of a frame store, which keeps encoded images under their SHA-256."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from infra.storage.frames.addressing import StoredContent
from schemas.events import ImageRef

REFRESH_AFTER_S = 3600.0
"""Content that is put again gets a new time when its time is older than this, or sooner."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Describes one object of the store."""

    uri: str
    size_bytes: int
    modified_at: datetime


class FrameStore(Protocol):
    """Stores encoded images by content: the same bytes are stored once."""

    async def put(self, data: bytes, *, sha256: str, media_type: str) -> str:
        """Store ``data`` durably and return its uri; a part of it is never visible.

        Content that is stored already gets a new time: when this returns, the object's time is at most REFRESH_AFTER_S
        before this call, so that :meth:`delete_older` does not remove it.

        Raises StoreUnavailableError, and StoreFullError (a StoreUnavailableError) when there is no free space.
        """
        ...

    async def put_file(self, path: Path, *, sha256: str, media_type: str) -> str:
        """Store the content of the local file ``path`` as :meth:`put` does, with memory that its size does not change.

        Nobody may write to the file meanwhile, and ``sha256`` must be its hash.
        """
        ...

    def local(self, image: StoredContent) -> AbstractAsyncContextManager[Path]:
        """Give a local file with the bytes of ``image``, whose hash was checked; nobody may write to it.

        Raises the errors of :meth:`get`.
        """
        ...

    async def get(self, image: ImageRef) -> bytes:
        """Return the bytes of ``image`` after checking their hash.

        Raises ImageMissingError (no such object, or an address outside this store), ImageCorruptError (a different hash
        or size), StoreUnavailableError (try again).
        """
        ...

    async def find(self, digests: Collection[str]) -> Mapping[str, StoredObject]:
        """Return the objects that have the content with one of ``digests`` (SHA-256, hex), by digest.

        An object that was found may be removed at any time (:meth:`delete_older`); put its content again to keep it.
        Raises ValueError for a text that is no digest, and StoreUnavailableError.
        """
        ...

    async def delete(self, uri: str) -> None:
        """Remove an object of this store; it is no error when it does not exist."""

    async def delete_older(self, uri: str, cutoff: datetime) -> bool:
        """Remove an object unless it was put, or put again, after ``cutoff``; return whether it was removed.

        For retention. It never removes an object that a put has stored or is storing: the time is read again, and
        a put of the same content either renews the time before that, or finds no object and stores it again. ``cutoff``
        must be more than REFRESH_AFTER_S ago. Several processes may do this at the same time.
        """
        ...

    def objects(self) -> AsyncIterator[StoredObject]:
        """Yield every object of the store."""
        ...

    async def check(self) -> None:
        """Write and read a small object; raises the errors of :meth:`put`."""

    async def close(self) -> None:
        """Release all resources; may be called twice."""
