"""Defines the port that a model store is built on: bytes under keys, in a folder or on a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Protocol

CHUNK_BYTES = 1_048_576

OnTransfer = Callable[[str, int, int | None], None]
"""Called with a transfer's key, the bytes that were moved, and the bytes in all (None: not known)."""


def ignore_transfer(_key: str, _moved: int, _total: int | None) -> None:
    """Do nothing with a transfer's progress."""


class BlobMissingError(Exception):
    """There is nothing under the key; never leaves this package."""


@dataclass(frozen=True, slots=True)
class Download:
    """Holds the bytes of one download."""

    size: int | None
    """The size that the place announced, or None."""
    chunks: AsyncIterator[bytes]
    """Raises the same errors as the methods of :class:`Blobs`."""


class Blobs(Protocol):
    """Keeps bytes under keys ``name/version/file``.

    Every method raises ModelStoreUnavailableError when the place is unavailable, and ModelStoreError when a person must
    change a setting first.
    """

    @property
    def where(self) -> str:
        """The place, as text for people."""
        ...

    async def keys(self) -> Sequence[str]:
        """Return all keys. Raises ModelStoreError where the place cannot list them."""
        ...

    def read(self, key: str) -> AbstractAsyncContextManager[Download]:
        """Read the bytes under ``key``. Raises BlobMissingError when there are none."""
        ...

    async def write(self, key: str, file: Path, on_transfer: OnTransfer) -> None:
        """Store a file under ``key``, in place of an older one; it is never visible half-written."""
        ...

    async def put(self, key: str, data: bytes, *, new: bool) -> bool:
        """Store a few bytes under ``key``; with ``new`` only when the key does not exist, else return False.

        Where the place cannot refuse an existing key, ``new`` changes nothing.
        """
        ...

    async def commit_changes(self, message: str) -> None:
        """Commit what was stored, where the place needs that; may be repeated."""
        ...

    async def close(self) -> None:
        """Close all connections; may be repeated."""
        ...


class CountingReader(BufferedReader):
    """Reports how far a file was read; a BufferedReader, because HTTP clients ask such files for their size."""

    def __init__(self, path: Path, moved: Callable[[int], None]) -> None:
        super().__init__(FileIO(path), CHUNK_BYTES)
        self._moved = moved

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does, then report the position."""
        data = super().read(size)
        self._moved(self.tell())
        return data
